//! The lab: database hosts as namespaces of one machine, with real etcd and PostgreSQL, our daemons as built, faults, and a
//! write client that proves what was lost. Used by the integration tests, by `make demo` and by `make lab`.
//!
//! It links none of the programs under test: it starts them, asks them over their interfaces and ends them. Nothing of a lab
//! has a way out of the machine, and several labs run side by side with the same addresses.
//!
//! Begin reading at [`Lab`], then `keeper` (who owns what), `host` (what a host is) and [`client_load`].

pub mod arp_watch;
pub mod bench;
pub mod bench_proxy;
pub mod bench_vip;
pub mod calm_run;
pub mod classic;
pub mod client_load;
pub mod clock;
mod control;
mod data_disk;
pub mod demo;
mod enter;
pub mod etcd;
pub mod fault_run;
mod faults;
pub mod fence_run;
mod files;
pub mod front;
mod host;
mod http;
mod keeper;
mod lab;
mod lab_dir;
mod leftovers;
pub mod load_report;
pub mod local_commits;
pub mod log_check;
mod machine;
pub mod nemesis;
pub mod observe;
mod options;
mod process_id;
pub mod registers;
mod results_file;
pub mod sessions;
pub mod soak;
mod spread;
pub mod stand_in;
mod switch;
mod topology;
pub mod wait;
pub mod wire;

pub mod command_line;

pub use control::{HostState, HostStatus, KeeperStatus, UnitStatus};
pub use data_disk::DataDisk;
pub use http::HttpAnswer;
pub use lab::{Lab, Output};
pub use lab_dir::{LabDir, Plan};
pub use leftovers::{end_lab, remove_files, sweep};
pub use options::{LabOptions, Life};
pub use process_id::{ProcessId, raise_open_files};
pub use switch::Cut;
pub use topology::{CLIENT, LabHost, Role};
