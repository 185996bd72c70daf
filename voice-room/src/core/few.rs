//! A set of few values, sorted in one piece of memory of just that size: a room lists a port or two, and a node has
//! many rooms. A tree would take place for eleven.

use alloc::vec::Vec;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<T: Ord> Few<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, value: &T) -> bool {
        self.0.binary_search(value).is_ok()
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.0.first()
    }

    pub(crate) fn iter(&self) -> core::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// True: it was not there.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        let Err(at) = self.0.binary_search(&value) else {
            return false;
        };
        self.0.reserve_exact(1);
        self.0.insert(at, value);
        true
    }

    pub(crate) fn remove(&mut self, value: &T) {
        if let Ok(at) = self.0.binary_search(value) {
            self.0.remove(at);
        }
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut all: Vec<T> = values.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        all.shrink_to_fit();
        Few(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sorted_and_each_is_there_once() {
        let mut few: Few<u8> = [3, 1, 3, 2].into_iter().collect();
        assert!(!few.insert(2) && few.insert(0));
        few.remove(&1);
        few.remove(&9);
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [0, 2, 3]);
        assert!(few.contains(&2) && !few.contains(&1));
        few.retain(|n| *n > 2);
        assert_eq!((few.first(), few.len()), (Some(&3), 1));
        few.clear();
        assert!(few.is_empty());
    }
}
