//! A sequence that grows without moving what it holds.

/// Items in one piece. The first piece grows as it is needed, since most sequences are short.
const PIECE: usize = 64;

/// A sequence in pieces of one size. A long `Vec` doubles, is half empty after that, and leaves holes of every size
/// that it has had; this leaves none.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Rows<T> {
    pub(crate) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    pub(crate) fn push(&mut self, item: T) {
        let is_first = self.pieces.is_empty();
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => {
                if last.len() == last.capacity() {
                    last.reserve_exact((last.len() / 2 + 1).min(PIECE - last.len()));
                }
                last.push(item);
            }
            _ => {
                let mut piece = Vec::with_capacity(if is_first { 1 } else { PIECE });
                piece.push(item);
                if is_first {
                    self.pieces.reserve_exact(1);
                }
                self.pieces.push(piece);
            }
        }
    }

    /// Takes the last item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.pieces.last_mut()?.pop();
        if self.pieces.last().is_some_and(Vec::is_empty) {
            self.pieces.pop();
            if self.pieces.len() * 4 < self.pieces.capacity() {
                self.pieces.shrink_to_fit();
            }
        }
        item
    }

    /// Takes an item out, in whose place the last one comes.
    pub(crate) fn swap_remove(&mut self, at: u32) -> Option<T> {
        let last = self.pop()?;
        match self.get_mut(at) {
            Some(item) => Some(std::mem::replace(item, last)),
            None => Some(last),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        self.pieces.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_vec_is() {
        let (mut rows, mut list) = (Rows::default(), Vec::new());
        for n in 0..1000_u32 {
            rows.push(n);
            list.push(n);
            if n % 3 == 0 {
                let at = n * 7 % list.len() as u32;
                assert_eq!(rows.swap_remove(at), Some(list.swap_remove(at as usize)));
            }
            assert_eq!((rows.len(), rows.get(n / 2)), (list.len(), list.get(n as usize / 2)));
        }
        assert!(rows.iter().eq(&list));
        while let Some(item) = rows.pop() {
            assert_eq!(Some(item), list.pop());
        }
        assert!(list.is_empty() && rows.len() == 0 && rows.pieces.is_empty());
        assert_eq!(rows.swap_remove(0), None);
    }

    #[test]
    fn a_short_one_takes_little() {
        let mut rows = Rows::default();
        rows.push(1_u64);
        assert_eq!((rows.pieces.capacity(), rows.pieces[0].capacity()), (1, 1));
    }
}
