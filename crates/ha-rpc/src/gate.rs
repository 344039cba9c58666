//! Where the table of [`crate::access`] is applied: around a whole service, before any of its code runs. An RPC that
//! somebody adds and forgets to enter in the table cannot be called at all.

use std::convert::Infallible;
use std::task::{Context, Poll};

use ha_core::ClusterName;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

use crate::access::Rpc;
use crate::identity::PeerIdentity;

/// A service that only lets callers through whose certificate may call the RPC. Their [`PeerIdentity`] is in the
/// request's extensions then ([`caller`]).
#[derive(Debug, Clone)]
pub struct Gate<S> {
    cluster: ClusterName,
    inner: S,
}

impl<S> Gate<S> {
    /// Guards `inner` for callers of this cluster.
    pub fn new(cluster: ClusterName, inner: S) -> Self {
        Self { cluster, inner }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match admit(&self.cluster, &request) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Box::pin(self.inner.call(request))
            }
            Err(refused) => {
                tracing::warn!(path = request.uri().path(), reason = refused.message(), "refused an RPC");
                Box::pin(std::future::ready(Ok(refused.into_http())))
            }
        }
    }
}

/// The caller's identity, if it may call this path.
fn admit(cluster: &ClusterName, request: &http::Request<Body>) -> Result<PeerIdentity, Status> {
    let certificates = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)
        .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    let end_entity = certificates.first().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    let identity = PeerIdentity::of_certificate(end_entity)
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
    if identity.cluster != *cluster {
        let message = format!("{identity} does not belong to cluster {cluster}");
        return Err(Status::permission_denied(message));
    }
    let path = request.uri().path();
    let rpc = Rpc::of_path(path).ok_or_else(|| Status::unimplemented(format!("no RPC {path}")))?;
    if !rpc.may_be_called_by(identity.role) {
        let message = format!("a certificate of role {} may not call {rpc:?}", identity.role);
        return Err(Status::permission_denied(message));
    }
    Ok(identity)
}

/// Who called, in a handler behind a [`Gate`].
///
/// # Errors
/// `UNAUTHENTICATED` when the service was mounted without a gate.
pub fn caller<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    let identity = request.extensions().get::<PeerIdentity>().cloned();
    identity.ok_or_else(|| Status::unauthenticated("the caller was not identified"))
}
