//! Every failure in a lab of its own. One file each, named by what breaks.

mod agent_killed;
mod agent_stopped_for_ever;
mod all_hosts_power_cycle;
mod bootstrap_all_at_once;
mod disk_full;
mod etcd_lost_and_back;
mod etcd_member_lost;
mod foreign_data_directory;
mod guard_killed;
mod idle_cluster;
mod listeners_and_secrets;
mod old_primary_rewinds;
mod owned_parameter_altered;
mod pause_with_agent_stopped;
mod postmaster_killed;
mod primary_partitioned;
mod primary_partitioned_from_etcd;
mod primary_partitioned_from_standbys;
mod primary_power_loss;
mod primary_power_loss_with_etcd_leader;
mod rolling_agent_restart;
mod standby_power_loss;
mod standby_recloned;
mod switchover_named_candidate;
