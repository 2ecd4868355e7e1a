//! Iterates over the values of a column. Each function takes the values that have arrived, appends them to the bytes
//! of their receivers, and returns the number of bytes that it took. An incomplete value at the end stays. No I/O.

use super::window::{Varint, varint};

/// Consecutive values that belong to one receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Index of the receiver.
    pub(crate) to: usize,
    pub(crate) count: u64,
}

/// A position within runs.
pub(super) struct RunPosition<'a> {
    runs: &'a [Run],
    at: usize,
    /// How many values of the current run were taken.
    taken: u64,
}

impl<'a> RunPosition<'a> {
    pub(super) fn new(runs: &'a [Run]) -> Self {
        Self { runs, at: 0, taken: 0 }
    }

    /// Returns the receiver of the next value, and how many values in a row are its own.
    pub(super) fn next(&mut self) -> Option<(usize, u64)> {
        loop {
            let run = self.runs.get(self.at)?;
            if self.taken < run.count {
                return Some((run.to, run.count - self.taken));
            }
            (self.at, self.taken) = (self.at + 1, 0);
        }
    }

    pub(super) fn take(&mut self, count: u64) {
        self.taken += count;
    }
}

/// Takes values of a width that the compiler knows.
pub(super) fn fixed<const WIDTH: usize>(
    bytes: &[u8],
    position: &mut RunPosition,
    ready: &mut [Vec<u8>],
) -> Result<usize, &'static str> {
    let (values, _) = bytes.as_chunks::<WIDTH>();
    let mut at = 0usize;
    while let Some((to, count)) = position.next() {
        let run = &values[at..values.len().min(at.saturating_add(count as usize))];
        match run {
            [] => break,
            [one] => ready[to].extend_from_slice(one),
            many => ready[to].extend_from_slice(many.as_flattened()),
        }
        at += run.len();
        position.take(run.len() as u64);
    }
    Ok(at * WIDTH)
}

/// Takes values of another width.
pub(super) fn wide(
    width: usize,
    bytes: &[u8],
    position: &mut RunPosition,
    ready: &mut [Vec<u8>],
) -> Result<usize, &'static str> {
    let mut at = 0;
    while let Some((to, count)) = position.next() {
        let available = ((bytes.len() - at) / width).min(usize::try_from(count).unwrap_or(usize::MAX));
        if available == 0 {
            break;
        }
        ready[to].extend_from_slice(&bytes[at..at + available * width]);
        at += available * width;
        position.take(available as u64);
    }
    Ok(at)
}

/// Takes texts; `body` is the number of bytes of the current text that have not arrived yet.
pub(super) fn texts(
    body: &mut u64,
    bytes: &[u8],
    position: &mut RunPosition,
    ready: &mut [Vec<u8>],
) -> Result<usize, &'static str> {
    let mut at = 0;
    while let Some((to, count)) = position.next() {
        let ready = &mut ready[to];
        for _ in 0..count {
            let from = at;
            if *body == 0 {
                match varint(&bytes[at..]) {
                    Varint::Is(length, written) => (*body, at) = (length, at + written),
                    Varint::Cut => return Ok(at),
                    Varint::None => return Err("there is no number where the length of a text must be"),
                }
            }
            let available = usize::try_from(*body).unwrap_or(usize::MAX).min(bytes.len() - at);
            at += available;
            *body -= available as u64;
            ready.extend_from_slice(&bytes[from..at]);
            if *body > 0 {
                return Ok(at);
            }
            position.take(1);
        }
    }
    Ok(at)
}

/// The ends of arrays. They count from the beginning of the block, so each receiver gets new ones.
pub(super) struct Ends {
    last: u64,
    /// Elements of each receiver so far.
    passed: Vec<u64>,
    /// The receivers of the elements, in the order of the elements.
    pub(crate) elements: Vec<Run>,
}

impl Ends {
    pub(super) fn new(receivers: usize) -> Self {
        Self { last: 0, passed: vec![0; receivers], elements: Vec::new() }
    }

    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        position: &mut RunPosition,
        ready: &mut [Vec<u8>],
    ) -> Result<usize, &'static str> {
        let (ends, _) = bytes.as_chunks::<8>();
        let mut at = 0usize;
        while let Some((to, count)) = position.next() {
            let run = &ends[at..ends.len().min(at.saturating_add(count as usize))];
            if run.is_empty() {
                break;
            }
            let mut elements = 0;
            for end in run {
                let end = u64::from_le_bytes(*end);
                let length = end.checked_sub(self.last).ok_or("an array ends before it begins")?;
                self.last = end;
                elements += length;
                self.passed[to] += length;
                ready[to].extend_from_slice(&self.passed[to].to_le_bytes());
            }
            match self.elements.last_mut() {
                Some(last) if last.to == to => last.count += elements,
                _ if elements > 0 => self.elements.push(Run { to, count: elements }),
                _ => {}
            }
            at += run.len();
            position.take(run.len() as u64);
        }
        Ok(at * 8)
    }
}
