//! Many short texts beside each other.

/// Bytes of a piece. A longer text has one of its own.
const PIECE: usize = 4096;

/// Texts of any length, end to end in pieces. With an allocation for each, most of them would cost more than they hold.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pieces: Vec<Vec<u8>>,
    /// Bytes of all pieces.
    bytes: usize,
    /// Bytes of those texts that nobody needs any more.
    wasted: usize,
}

/// Where a text is among the [`Texts`] that gave it out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    piece: u32,
    start: u16,
    /// Its bytes, or [`WHOLE`].
    len: u16,
}

/// The length of a text that has a piece of its own: the piece's.
const WHOLE: u16 = u16::MAX;

impl Texts {
    pub(crate) fn add(&mut self, text: &[u8]) -> Text {
        self.bytes += text.len();
        if text.len() >= PIECE {
            self.pieces.push(text.to_vec());
            return Text { piece: self.pieces.len() as u32 - 1, start: 0, len: WHOLE };
        }
        if self.pieces.last().is_none_or(|last| last.len() + text.len() > PIECE) {
            // Most connections have few subscriptions: the first piece grows as it is needed.
            let first = if self.pieces.is_empty() { text.len() } else { PIECE };
            self.pieces.push(Vec::with_capacity(first));
        }
        let piece = self.pieces.len() as u32 - 1;
        let mut start = 0;
        if let Some(last) = self.pieces.last_mut() {
            start = last.len() as u16;
            if last.capacity() - last.len() < text.len() {
                last.reserve_exact(text.len().max(last.len() / 2).min(PIECE - last.len()));
            }
            last.extend_from_slice(text);
        }
        Text { piece, start, len: text.len() as u16 }
    }

    /// Bytes of all texts, those counted that nobody needs any more.
    pub(crate) const fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, text: Text) -> &[u8] {
        let piece = self.pieces.get(text.piece as usize).map(Vec::as_slice).unwrap_or_default();
        let start = usize::from(text.start);
        match text.len {
            WHOLE => piece,
            len => piece.get(start..start + usize::from(len)).unwrap_or_default(),
        }
    }

    /// Says that nobody needs a text any more. Its place is used again once [`Texts::is_wasteful`] and all others have
    /// moved.
    pub(crate) fn forget(&mut self, text: Text) {
        self.wasted += self.get(text).len();
    }

    /// Whether so much is wasted that those who are left should move to new ones.
    pub(crate) const fn is_wasteful(&self) -> bool {
        self.wasted > PIECE && self.wasted * 2 > self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_it_was() {
        let mut texts = Texts::default();
        let lengths =
            [0, 1, 13, PIECE - 1, 2, PIECE, PIECE + 1, 20 * PIECE, 70_000, 3, PIECE / 2, PIECE / 2, 1];
        let given: Vec<(Text, Vec<u8>)> = lengths
            .iter()
            .cycle()
            .take(200)
            .zip(0..)
            .map(|(len, n): (_, u8)| (vec![n; *len], n))
            .map(|(text, _)| (texts.add(&text), text))
            .collect();
        for (at, text) in &given {
            assert_eq!(texts.get(*at), text);
        }
    }

    #[test]
    fn it_is_wasteful_once_more_than_half_is_not_needed() {
        let mut texts = Texts::default();
        let given: Vec<Text> = (0..1000).map(|_| texts.add(b"ten bytes.")).collect();
        for (n, text) in given.iter().enumerate() {
            assert_eq!(texts.is_wasteful(), n > 500, "{n}");
            texts.forget(*text);
        }
    }

    #[test]
    fn few_texts_take_little() {
        let mut texts = Texts::default();
        texts.add(b"a.b.c");
        assert_eq!((size_of::<Text>(), texts.pieces[0].capacity()), (8, 5));
    }
}
