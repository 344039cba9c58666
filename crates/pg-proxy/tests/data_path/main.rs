//! The data path against fake servers and clients.

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod cancelling;
#[cfg(test)]
mod cutting;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod read_lease;
#[cfg(test)]
mod waiting;
