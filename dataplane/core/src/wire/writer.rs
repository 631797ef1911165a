//! A cursor over a fixed buffer, shared by all writers of wire formats. Owns nothing; never grows
//! and never writes past the end: a full buffer is a value ([`Full`]), not a panic.

/// The buffer has no room for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no space left in the buffer")]
pub struct Full;

/// Appends to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Bytes written.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What was written.
    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// What was written, to be changed.
    pub(crate) fn written_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// Forgets what was written after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len + bytes.len();
        self.buffer.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Result<(), Full> {
        self.put(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    /// The lower 24 bits.
    pub(crate) fn u24(&mut self, value: u32) -> Result<(), Full> {
        let [_, a, b, c] = value.to_be_bytes();
        self.put(&[a, b, c])
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    /// Zeroes up to a multiple of four.
    pub(crate) fn pad_to_word(&mut self) -> Result<(), Full> {
        while !self.len.is_multiple_of(4) {
            self.u8(0)?;
        }
        Ok(())
    }

    /// Overwrites two bytes that were written before.
    pub(crate) fn set_u16(&mut self, offset: usize, value: u16) {
        if let Some(place) = self.written_mut().get_mut(offset..offset + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}
