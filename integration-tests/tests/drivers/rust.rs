//! What an application does with tokio-postgres, with TLS by rustls.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::{CLIENT, Lab};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Limit of everything that one session does.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether a standby answered, and whether PostgreSQL sees TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) standby: bool,
    pub(super) tls: bool,
}

/// Connects from the client host, with the lab's authority as the only one that is trusted, and uses the session.
///
/// # Errors
/// Something did not work, or took too long.
pub(super) fn use_session(lab: &Lab, config: Config) -> Result<Server> {
    let authority = lab.dir().host(CLIENT).join("etc/tls/ca.crt");
    lab.in_network_of(CLIENT, move || {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&authority)? {
            roots.add(certificate?)?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, all(config, MakeRustlsConnect::new(tls)))
                .await
                .context("took too long")?
        })
    })?
}

async fn all(config: Config, tls: MakeRustlsConnect) -> Result<Server> {
    let (mut client, connection) = config.connect(tls.clone()).await?;
    let connection = tokio::spawn(connection);
    let sql = "SELECT pg_is_in_recovery(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = client.query_one(sql, &[]).await?;
    let server = Server { standby: row.get(0), tls: row.get(1) };
    prepared(&client).await?;
    cancelled(&client, tls).await?;
    prepared(&client).await.context("after a cancel")?;
    if !server.standby {
        writes(&mut client).await?;
    }
    drop(client);
    connection.await?.context("end of the connection")?;
    Ok(server)
}

async fn prepared(client: &Client) -> Result<()> {
    let sum = client.prepare("SELECT $1::int + $2::int").await?;
    for number in 0..20_i32 {
        let found: i32 = client.query_one(&sum, &[&number, &1000_i32]).await?.get(0);
        ensure!(found == number + 1000, "{number} + 1000 is not {found}");
    }
    Ok(())
}

/// By a connection of its own, with TLS where the session has it.
async fn cancelled(client: &Client, tls: MakeRustlsConnect) -> Result<()> {
    let token = client.cancel_token();
    let slow = client.simple_query("SELECT pg_sleep(30)");
    let cancel = async {
        // A request that comes before its statement finds nothing to cancel; one that comes late must not find the next.
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            token.cancel_query(tls.clone()).await?;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        Ok::<(), tokio_postgres::Error>(())
    };
    let ended = tokio::select! {
        ended = slow => ended,
        error = cancel => return error.context("cancel"),
    };
    let code = ended.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::QUERY_CANCELED), "{code:?} instead of query_canceled");
    Ok(())
}

async fn writes(client: &mut Client) -> Result<()> {
    client.batch_execute("CREATE TEMPORARY TABLE scratch (number int PRIMARY KEY, word text)").await?;
    let insert = client.prepare("INSERT INTO scratch VALUES ($1, $2)").await?;
    for keep in [true, false] {
        let transaction = client.transaction().await?;
        for number in 0..100_i32 {
            let number = if keep { number } else { number + 1000 };
            transaction.execute(&insert, &[&number, &format!("word {number}")]).await?;
        }
        if keep { transaction.commit().await? } else { transaction.rollback().await? }
    }
    let rows: i64 = client.query_one("SELECT count(*) FROM scratch", &[]).await?.get(0);
    ensure!(rows == 100, "{rows} rows instead of 100");
    Ok(())
}
