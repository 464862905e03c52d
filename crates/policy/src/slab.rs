//! Dense storage by index, with holes. Everything in this crate that refers to something else does so by such an
//! index: no reference counts, no hashing on the way of a request.

use std::ops::{Index, IndexMut};

#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<usize>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> usize {
        self.len += 1;
        if let Some(at) = self.free.pop() {
            self.items[at] = Some(value);
            return at;
        }
        self.items.push(Some(value));
        self.items.len() - 1
    }

    /// Puts a value at an index that the caller owns (ids of the configuration). Never mixed with `insert`.
    pub(crate) fn put(&mut self, at: u32, value: T) {
        let at = at as usize;
        if at >= self.items.len() {
            self.items.resize_with(at + 1, || None);
        }
        self.len += usize::from(self.items[at].is_none());
        self.items[at] = Some(value);
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        let gone = self.items.get_mut(at)?.take();
        if gone.is_some() {
            self.len -= 1;
            self.free.push(at);
        }
        gone
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.items.get(at)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(at)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.items.iter().enumerate().filter_map(|(i, v)| v.as_ref().map(|v| (i, v)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.items.iter_mut().enumerate().filter_map(|(i, v)| v.as_mut().map(|v| (i, v)))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;
    #[expect(clippy::expect_used, reason = "an index is handed out only while its entry lives")]
    fn index(&self, at: usize) -> &T {
        self.items[at].as_ref().expect("a live index")
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[expect(clippy::expect_used, reason = "an index is handed out only while its entry lives")]
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.items[at].as_mut().expect("a live index")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_reused_only_after_removal() {
        let mut s = Slab::default();
        let (a, b) = (s.insert('a'), s.insert('b'));
        assert_eq!(s.remove(a), Some('a'));
        assert_eq!(s.remove(a), None);
        assert_eq!(s.len(), 1);
        let c = s.insert('c');
        assert_eq!((c, s[b], s[c], s.len()), (a, 'b', 'c', 2));
    }
}
