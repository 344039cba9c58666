//! Which client certificate hactl shows to the agents.

use std::path::{Path, PathBuf};

use crate::exit_code::{Code, Stop};

/// The files of one client certificate (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientFiles {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where a host keeps its own certificate.
const HOST_DIR: &str = "/etc/matriarch/tls";

/// Finds the certificate: in `given` alone if it is given, otherwise in the user's directory or the host's. An admin's
/// certificate goes before a host's in the same directory.
///
/// # Errors
/// With [`Code::Configuration`] when there is none that can be read; the message names the places.
pub(crate) fn find(given: Option<&Path>) -> anyhow::Result<ClientFiles> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/matriarch"));
    let places = match given {
        Some(dir) => vec![dir.to_owned()],
        None => home.into_iter().chain([PathBuf::from(HOST_DIR)]).collect(),
    };
    find_in(&places)
}

fn find_in(places: &[PathBuf]) -> anyhow::Result<ClientFiles> {
    for dir in places {
        for name in ["admin", "host"] {
            let files = ClientFiles {
                ca: dir.join("ca.crt"),
                cert: dir.join(format!("{name}.crt")),
                key: dir.join(format!("{name}.key")),
            };
            if [&files.ca, &files.cert, &files.key].into_iter().all(|file| std::fs::File::open(file).is_ok())
            {
                return Ok(files);
            }
        }
    }
    let looked: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
    let message = format!(
        "no readable client certificate (ca.crt with admin.crt and admin.key, or host.crt and host.key) in {}: copy the \
         directory `admin` that `hactl init` wrote to ~/.config/matriarch, or give --cert-dir",
        looked.join(", ")
    );
    Err(Stop::new(Code::Configuration, message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admins_certificate_goes_before_the_hosts_and_a_missing_one_names_the_places() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().to_path_buf();
        let message = find_in(std::slice::from_ref(&place)).unwrap_err().to_string();
        assert!(message.contains(place.to_str().unwrap()), "{message}");
        for name in ["ca.crt", "host.crt", "host.key"] {
            std::fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(find_in(std::slice::from_ref(&place)).unwrap().cert, place.join("host.crt"));
        for name in ["admin.crt", "admin.key"] {
            std::fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(
            find_in(&[PathBuf::from("/nowhere"), place.clone()]).unwrap().key,
            place.join("admin.key")
        );
    }
}
