//! The data path against fake servers and clients.

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod cancelling;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod cutting;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod load_balancer;
#[cfg(test)]
mod read_lease;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod terminating;
#[cfg(test)]
mod tls_client;
#[cfg(test)]
mod waiting;
