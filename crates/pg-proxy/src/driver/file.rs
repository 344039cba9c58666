//! The cluster file was read again: what of it comes into force, and who is told.

use ha_config::{Acts, Cluster, TlsEnd};
use ha_daemon::boottime;
use ha_routing::Event;

use super::Driver;
use crate::config_watch::FileRead;
use crate::configuration;

impl Driver {
    pub(super) fn reload(&self) {
        if self.is_main() {
            ha_daemon::notify_reloading();
        }
        // A wish that waits already is as good.
        let _ = self.parts.read_file.try_send(());
    }

    pub(super) fn take_file(&mut self, FileRead { found, asked }: FileRead) {
        match found {
            Ok(file) => self.put_file_in_force(&file, asked),
            Err(problems) => {
                tracing::error!(
                    asked,
                    "the cluster file is refused, the values from before stay in force:\n{problems}"
                );
                self.parts.snapshot.file_refused(problems.to_string());
            }
        }
        if asked && self.is_main() {
            ha_daemon::notify_ready();
        }
    }

    /// A certificate is renewed in its place; the cluster file says nothing of that.
    fn read_certificate_again(&self) {
        let (Some(tls), TlsEnd::Terminate { certificate, key }) =
            (self.parts.data.client_tls(), &self.parts.cluster.routing.tls)
        else {
            return;
        };
        if let Err(problems) = tls.reload(certificate, key) {
            tracing::error!("the certificate that clients see stays the one from before:\n{problems}");
        }
    }

    fn put_file_in_force(&mut self, file: &Cluster, asked: bool) {
        self.read_certificate_again();
        if file.digest == self.parts.cluster.digest {
            self.parts.snapshot.file_unchanged();
            tracing::info!(asked, digest = %file.digest, "the cluster file was read again: nothing has changed");
            return;
        }
        let mut needs_restart = Vec::new();
        for change in self.parts.cluster.proxy_changes(file) {
            match change.acts {
                Acts::Now => tracing::info!("changed: {change}"),
                Acts::AtStart => {
                    tracing::warn!("needs a restart: {change}");
                    needs_restart.push(change.to_string());
                }
            }
        }
        let cluster = self.parts.cluster.proxy_takes_over(file);
        let setup = configuration::setup(&cluster);
        self.router.handle_event(boottime(), Event::Reconfigured(Box::new(setup)));
        self.parts.data.apply(configuration::settings(&cluster));
        self.parts.probe.change_limit(cluster.routing.check_timeout);
        self.parts.drain.change_limits(configuration::drain_limits(&cluster));
        self.parts.snapshot.file_taken_over(&cluster.digest, needs_restart);
        tracing::info!(asked, digest = %cluster.digest, "the cluster file was read again and is in force");
        self.parts.cluster = cluster;
    }
}
