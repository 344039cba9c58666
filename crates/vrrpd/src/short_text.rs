//! Text of the kernel's, in place: names of interfaces pass through the thread that advertises, which asks for no memory.

use std::fmt;

/// Name of an interface (`IFNAMSIZ`, its closing zero byte included).
pub(crate) type InterfaceName = ShortText<16>;

/// At most `N` bytes (and 255) of UTF-8; what is longer is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortText<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> ShortText<N> {
    /// Up to a zero byte, if there is one. What is not UTF-8 becomes a question mark.
    pub(crate) fn read(value: &[u8]) -> Self {
        let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut text = Self::default();
        for chunk in value.utf8_chunks() {
            chunk.valid().chars().for_each(|c| text.push(c));
            if !chunk.invalid().is_empty() {
                text.push('?');
            }
        }
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    fn push(&mut self, c: char) {
        let (begin, mut encoded) = (usize::from(self.length), [0; 4]);
        let encoded = c.encode_utf8(&mut encoded).as_bytes();
        let end = begin + encoded.len();
        if let (Some(room), Ok(length)) = (self.bytes.get_mut(begin..end), u8::try_from(end)) {
            room.copy_from_slice(encoded);
            self.length = length;
        }
    }
}

impl<const N: usize> Default for ShortText<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> From<&str> for ShortText<N> {
    fn from(text: &str) -> Self {
        Self::read(text.as_bytes())
    }
}

impl<const N: usize> fmt::Display for ShortText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for ShortText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_or_is_no_text_is_cut_or_marked() {
        let read = |bytes: &[u8]| ShortText::<8>::read(bytes).to_string();
        assert_eq!((read(b"eth0\0rest"), read(b"")), ("eth0".to_owned(), String::new()));
        assert_eq!((read(b"0123456789"), read("1234567é".as_bytes())), ("01234567".into(), "1234567".into()));
        assert_eq!(read(b"a\xffb\xc3"), "a?b?");
        assert_eq!(ShortText::<300>::from(&*"x".repeat(300)).as_str().len(), 255);
    }
}
