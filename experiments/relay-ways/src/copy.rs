//! What tokio brings along: two buffers of 8 KiB for each session.

use tokio::net::{TcpListener, TcpStream};

use crate::{Route, epoll};

pub(crate) fn run(route: Route) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async move {
        let listener = TcpListener::from_std(epoll::listen(route.listen)?)?;
        loop {
            let (mut client, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                let mut server = TcpStream::connect(route.to).await?;
                server.set_nodelay(true)?;
                client.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    }))
}
