//! keepalived's usual configuration: a preferred and a second host, and a check of the proxy that raises the priority.

/// The check as it is usually written. On Debian it never succeeds: keepalived resolves the symbolic link to `killall5` and
/// runs that by its own name. The priority then stays what it is, 101 or 100.
pub const CHECK: &str = "/usr/bin/pidof haproxy";
/// The same check in a form that works: the priority becomes 103 or 102.
pub const WORKING_CHECK: &str = "/bin/sh -c '/usr/bin/pidof haproxy'";

/// The file of one host: the two differ in state and priority.
pub(super) fn configuration(host: &str, version: u8, check: &str) -> String {
    let (state, priority) = if host == "ha1" { ("MASTER", 101) } else { ("BACKUP", 100) };
    let protocol = match version {
        2 => "    authentication {\n        auth_type PASS\n        auth_pass cfgha26\n    }\n",
        _ => "    version 3\n",
    };
    format!(
        "\
vrrp_script chk_haproxy {{
    script \"{check}\"
    interval 2
    weight 2
    fall 2
    rise 2
}}
vrrp_instance VI_PG {{
    state {state}
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 1
{protocol}    virtual_ipaddress {{
        10.0.1.10/24
    }}
    track_script {{
        chk_haproxy
    }}
}}
"
    )
}
