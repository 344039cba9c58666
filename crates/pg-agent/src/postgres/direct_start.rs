//! Starts the postmaster as a child of the agent, for hosts whose guard is off, and for tests. Nothing then ends
//! PostgreSQL when the agent is stuck.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::process::Command;

use super::place::Place;
use super::process;
use super::starter::Starter;

/// The agent itself as starter.
#[derive(Debug)]
pub struct DirectStarter {
    place: Place,
    running: Arc<AtomicBool>,
}

impl DirectStarter {
    /// Starts the server of this place.
    pub fn new(place: Place) -> Self {
        Self { place, running: Arc::default() }
    }
}

#[async_trait]
impl Starter for DirectStarter {
    async fn start(&self, settings: Vec<(String, String)>) -> Result<(), String> {
        let log_file = &self.place.paths.log_file;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log_file)
            .map_err(|error| format!("open {}: {error}", log_file.display()))?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(self.place.program("postgres"));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .arg("-D")
            .arg(&self.place.paths.data_dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Its own process group: a signal to the agent's terminal must not reach the server.
            .process_group(0);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        self.running.store(true, Ordering::Release);
        let running = Arc::clone(&self.running);
        // Somebody must reap it: a zombie keeps its number and so its pid file valid.
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                tracing::info!(%status, "postmaster ended");
            }
            running.store(false, Ordering::Release);
        });
        Ok(())
    }

    async fn kill_all(&self, reason: &str) -> Result<(), String> {
        tracing::warn!(reason, "killing all processes of PostgreSQL");
        process::kill_all(&self.place.paths.data_dir);
        Ok(())
    }

    async fn is_populated(&self) -> Result<bool, String> {
        Ok(self.running.load(Ordering::Acquire) || process::any_alive(&self.place.paths.data_dir))
    }
}
