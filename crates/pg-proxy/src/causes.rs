//! An error for people: what was tried, and what the root of the trouble was. What lies between are the words of
//! libraries for each other.

use tonic::Status;

/// The error and its deepest cause on one line.
pub(crate) fn brief(error: &dyn std::error::Error) -> String {
    match deepest(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// How a call ended: the server's own words, or how the connection broke.
pub(crate) fn ended(status: &Status) -> String {
    match deepest(status) {
        Some(cause) => format!("the stream broke: {cause}"),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

fn deepest(error: &dyn std::error::Error) -> Option<String> {
    let deepest = std::iter::successors(error.source(), |cause| cause.source()).last()?.to_string();
    // Some libraries end their sentences with the address of a page.
    let text = deepest.split(": https://").next().unwrap_or_default();
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Self>>);

    fn layers() -> Layer {
        let root = Layer("closed without notice: https://docs.rs/x", None);
        Layer("connect to pg1", Some(Box::new(Layer("transport error", Some(Box::new(root))))))
    }

    #[test]
    fn the_first_and_the_last_word_are_kept() {
        assert_eq!(brief(&layers()), "connect to pg1: closed without notice");
        assert_eq!(brief(&Layer("alone", None)), "alone");
        assert_eq!(ended(&Status::from_error(Box::new(layers()))), "the stream broke: closed without notice");
        assert_eq!(ended(&Status::permission_denied("ha9 is no proxy")), "ha9 is no proxy");
        assert_eq!(ended(&Status::unavailable("")), "The service is currently unavailable");
    }
}
