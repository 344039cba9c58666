//! Nothing listens on an address that the file does not name; secrets stand in no log, no process list and no file that
//! everybody may read.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use integration_tests::front::OPEN;
use integration_tests::proof::{prove, writing};
use integration_tests::{SETTLE, scenario, with_proxies};

#[test]
fn listeners_and_secrets() {
    scenario("listeners_and_secrets", with_proxies, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        // A switchover hands passwords around: pass files and connection strings are written anew.
        let output = lab.hactl(&["switchover", "--yes"])?;
        ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
        lab.wait_healthy(SETTLE)?;
        for host in lab.databases() {
            only_own_address(lab, host)?;
            secrets_are_secret(lab, host)?;
        }
        lab.wait_front(OPEN)?;
        for host in lab.proxies() {
            only_own_address(lab, host)?;
            let stolen = lab.exec_as(host, "nobody", &["cat", "/etc/matriarch/tls/host.key"])?;
            ensure!(stolen.code != Some(0), "anybody may read the key of {host}");
            // It asks nobody for a password, so that it needs none.
            let secrets = lab.dir().host(host).join("etc/secrets.toml");
            ensure!(!secrets.exists(), "a proxy host has secrets that it does not need");
        }
        prove(lab, load).map(drop)
    });
}

fn only_own_address(lab: &Lab, host: &str) -> Result<()> {
    let own = lab.address(host)?.to_string();
    let output = lab.exec(host, &["ss", "-Hlntup"])?;
    ensure!(output.code == Some(0), "ss on {host}: {}", output.stderr);
    // The port of a floating address is open before the address arrives.
    let vip = if lab.proxies().contains(&host) { Some(lab.vip()?.to_string()) } else { None };
    let mut count = 0;
    for line in output.stdout.lines() {
        let local = line.split_whitespace().nth(4).with_context(|| format!("line {line:?}"))?;
        let (address, _) = local.rsplit_once(':').with_context(|| format!("address {local:?}"))?;
        // PostgreSQL's statistics socket was of this kind until 14: a loopback socket that is connected to itself.
        let internal = line.starts_with("udp") && address == "127.0.0.1";
        let floating = vip == Some(address.to_owned());
        ensure!(address == own || internal || floating, "{host} listens on {local}: {line}");
        count += 1;
    }
    ensure!(
        count >= 5,
        "{host}: only {count} listeners found, at least etcd (2), PostgreSQL and the agent (2), or six of a proxy, expected"
    );
    Ok(())
}

fn secrets_are_secret(lab: &Lab, host: &str) -> Result<()> {
    let secrets = secrets(lab, host)?;
    let processes = lab.exec(host, &["ps", "-eo", "args"])?.stdout;
    let environment = lab.exec(host, &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])?.stdout;
    for secret in &secrets {
        ensure!(
            !processes.contains(secret) && !environment.contains(secret),
            "a secret in the process list of {host}"
        );
        no_file_contains(&lab.dir().host(host).join("log"), secret)?;
    }
    // What everybody may read is best told by nobody.
    let patterns = lab.dir().host(host).join("work/patterns");
    fs::write(&patterns, secrets.join("\n")).context("write the patterns")?;
    let places = ["/etc/matriarch", "/var/lib", "/var/log", "/run", "/tmp", "/dev/shm"];
    let mut argv = vec!["grep", "-rlsF", "-f", "/lab/patterns"];
    argv.extend(places);
    let found = lab.exec_as(host, "nobody", &argv)?;
    fs::remove_file(&patterns).context("remove the patterns")?;
    ensure!(found.stdout.trim().is_empty(), "world-readable files with a secret on {host}: {}", found.stdout);
    Ok(())
}

/// Every quoted value of `secrets.toml`.
fn secrets(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(lab.dir().host(host).join("etc/secrets.toml")).context("read secrets.toml")?;
    let values: Vec<String> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            line.split_once('=')?.1.trim().strip_prefix('"')?.strip_suffix('"').map(str::to_owned)
        })
        .collect();
    ensure!(values.len() >= 3, "{} secrets found, at least three passwords expected", values.len());
    Ok(values)
}

fn no_file_contains(directory: &Path, secret: &str) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            no_file_contains(&path, secret)?;
        } else {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "a secret in the log {}", path.display());
        }
    }
    Ok(())
}
