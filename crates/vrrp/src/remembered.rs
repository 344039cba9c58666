//! What is remembered of each router on the link. Sources can be forged, so that there may be any number of them: the oldest
//! makes room for a new one. All the room is there from the beginning.

use std::net::IpAddr;

/// Routers that are remembered.
const LIMIT: usize = 64;

/// Something about each of them.
#[derive(Debug)]
pub(crate) struct Remembered<T>(Vec<(IpAddr, T)>);

impl<T> Remembered<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(LIMIT))
    }

    pub(crate) fn get(&self, source: IpAddr) -> Option<&T> {
        self.0.iter().find(|(known, _)| *known == source).map(|(_, what)| what)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, what)| what)
    }

    /// Remembers this of `source`. When there is no room, what is least by `age` is forgotten.
    pub(crate) fn put<A: Ord>(&mut self, source: IpAddr, what: T, age: impl Fn(&T) -> A) {
        let known = self.0.iter().position(|(known, _)| *known == source);
        let oldest = || (0..self.0.len()).min_by_key(|index| age(&self.0[*index].1));
        let place = known.or_else(|| if self.0.len() < LIMIT { None } else { oldest() });
        match place {
            Some(index) => self.0[index] = (source, what),
            None => self.0.push((source, what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_the_room_never_grows() {
        let source = |number: u16| {
            let [high, low] = number.to_be_bytes();
            IpAddr::from([10, 0, high, low])
        };
        let mut remembered = Remembered::new();
        let room = remembered.0.capacity();
        for number in 0..1000 {
            remembered.put(source(number), number, |age| *age);
            remembered.put(source(number), number, |age| *age);
        }
        assert_eq!((remembered.values().count(), remembered.0.capacity()), (LIMIT, room));
        assert_eq!((remembered.get(source(999)), remembered.get(source(1))), (Some(&999), None));
        let last = 1000 - u16::try_from(LIMIT).unwrap();
        assert_eq!(remembered.get(source(last)), Some(&last));
        remembered.put(source(last), 2000, |age| *age);
        remembered.put(source(3000), 3000, |age| *age);
        assert_eq!((remembered.get(source(last)), remembered.get(source(last + 1))), (Some(&2000), None));
    }
}
