//! Certificates that run out: all links of a cluster would end within the same minute.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;
/// Days before the end at which it is said anew.
const NOTICE: [i64; 3] = [1, 7, 30];

/// Reads the files; one that is not there is for others to complain about.
pub(super) async fn judge_files(files: &BTreeSet<PathBuf>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Ok(pem) = tokio::fs::read(file).await else { continue };
        found.extend(judge(file, &pem, SystemTime::now()));
    }
    found
}

fn judge(file: &Path, pem: &[u8], now: SystemTime) -> Option<String> {
    let file = file.display();
    let Some(end) = ha_rpc::identity::end_of_validity(pem) else {
        return Some(format!("{file} holds no certificate that can be read"));
    };
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    let left = end - i64::try_from(now.as_secs()).ok()?;
    if left <= 0 {
        return Some(format!("the certificate in {file} has run out: new connections fail"));
    }
    let days = NOTICE.into_iter().find(|days| left <= days * DAY)?;
    Some(format!(
        "the certificate in {file} runs out within {days} {}: after that new connections fail",
        if days == 1 { "day" } else { "days" }
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_that_runs_out_is_advice() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["pg1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 31);
        let pem = params.self_signed(&key).unwrap().pem();
        let end = UNIX_EPOCH + Duration::from_secs(1_896_048_000);
        let said = |before_secs: u64| {
            judge(Path::new("/tls/host.crt"), pem.as_bytes(), end - Duration::from_secs(before_secs))
        };
        assert_eq!(said(31 * 86_400), None);
        for (before_secs, words) in [(29 * 86_400, "30 days"), (6 * 86_400, "7 days"), (3600, "1 day:")] {
            let said = said(before_secs).unwrap();
            assert!(said.contains("/tls/host.crt") && said.contains(words), "{said}");
        }
        let over = judge(Path::new("/x"), pem.as_bytes(), end + Duration::from_secs(1)).unwrap();
        assert!(over.contains("has run out"), "{over}");
        assert!(judge(Path::new("/x"), b"no PEM", end).unwrap().contains("can be read"));
    }
}
