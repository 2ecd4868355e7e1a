//! Inputs made of those of a corpus: bits flipped, pieces cut, repeated, joined with pieces of other inputs, words put in, nested deeply.
//!
//! Own code: the libraries that mutate on stable Rust (`mutatis`, `bolero` without its engines) change one value or know no corpus, and
//! have neither words nor nesting, which is what finds faults in parsers without a look at coverage.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// No input is longer.
pub const LONGEST: usize = 16 << 10;
/// An input is changed at most so often.
const CHANGES: usize = 6;
/// One input of so many nests something.
const NESTED: usize = 50;
/// The deepest that something is nested.
const DEEPEST: usize = 20_000;

/// What parsers of all kinds trip over.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
    b"\r\n",
    b"0",
    b"-1",
    b"1e999",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1073741825",
    b"\\",
];

/// What opens and closes, to be nested.
const PAIRS: [(&str, &str); 10] = [
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("{\"a\":", "}"),
    ("Array(", ")"),
    ("Nullable(", ")"),
    ("<a>", "</a>"),
    ("- ", ""),
    ("a: {", "}"),
    ("/*", "*/"),
];

/// Makes inputs.
pub struct Mutator {
    random: StdRng,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// `dictionary` is one as libFuzzer reads it: a quoted word on each line.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>, dictionary: &str) -> Self {
        let lines = dictionary.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let words = WORDS.iter().map(|word| word.to_vec()).chain(lines.map(word)).collect();
        Self { random: StdRng::seed_from_u64(seed), corpus, words }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.one().to_vec();
        for _ in 0..self.random.random_range(1..=CHANGES) {
            self.change(&mut input);
        }
        if self.random.random_range(0..NESTED) == 0 {
            self.nest(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn one(&mut self) -> &[u8] {
        &self.corpus[self.random.random_range(0..self.corpus.len())]
    }

    /// A place in an input.
    fn place(&mut self, input: &[u8]) -> usize {
        self.random.random_range(0..=input.len())
    }

    /// A short piece of an input.
    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(input);
        let longest = if self.random.random_range(0..4) == 0 { input.len() } else { 16 };
        start..input.len().min(start + self.random.random_range(0..=longest))
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.random.random_range(0..9) {
            0 if !input.is_empty() => {
                let at = self.random.random_range(0..input.len());
                input[at] ^= 1 << self.random.random_range(0..8);
            }
            1 if !input.is_empty() => {
                let at = self.random.random_range(0..input.len());
                input[at] = self.random.random();
            }
            2 => drop(input.drain(self.piece(input))),
            3 => input.truncate(self.place(input)),
            4 => {
                let copied = input[self.piece(input)].to_vec();
                let times = if self.random.random_range(0..20) == 0 { 500 } else { 1 };
                let at = self.place(input);
                input.splice(at..at, copied.repeat(times));
            }
            5 => {
                let other = self.one().to_vec();
                let copied = other[self.piece(&other)].to_vec();
                let replaced = self.piece(input);
                input.splice(replaced, copied);
            }
            6 => {
                let other = self.one().to_vec();
                input.truncate(self.place(input));
                input.extend_from_slice(&other[self.place(&other)..]);
            }
            7 => {
                let word = self.words[self.random.random_range(0..self.words.len())].clone();
                let at = self.place(input);
                let end = if self.random.random() { at } else { input.len().min(at + word.len()) };
                input.splice(at..end, word);
            }
            _ => self.count(input),
        }
    }

    /// Replaces a number in digits by a word, or by one beside it.
    fn count(&mut self, input: &mut Vec<u8>) {
        let starts: Vec<usize> = (0..input.len())
            .filter(|at| input[*at].is_ascii_digit() && (*at == 0 || !input[at - 1].is_ascii_digit()))
            .collect();
        if starts.is_empty() {
            return;
        }
        let start = starts[self.random.random_range(0..starts.len())];
        let end =
            input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |length| start + length);
        let number = std::str::from_utf8(&input[start..end]).unwrap().parse::<u64>().unwrap_or(0);
        let number = match self.random.random_range(0..4) {
            0 => number.wrapping_add(1),
            1 => number.wrapping_sub(1),
            2 => 1 << self.random.random_range(0..64),
            _ => u64::MAX,
        };
        input.splice(start..end, number.to_string().into_bytes());
    }

    /// Puts a piece into many brackets.
    fn nest(&mut self, input: &mut Vec<u8>) {
        let (open, close) = PAIRS[self.random.random_range(0..PAIRS.len())];
        let deepest = if self.random.random() { 100 } else { DEEPEST };
        let depth = self.random.random_range(1..=deepest).min(LONGEST / (open.len() + close.len()) / 2);
        let piece = self.piece(input);
        let inside = input[piece.clone()].to_vec();
        let nested = [open.repeat(depth).into_bytes(), inside, close.repeat(depth).into_bytes()].concat();
        input.splice(piece, nested);
    }
}

/// A word of a dictionary: `"\x00a\\b\""`.
fn word(line: &str) -> Vec<u8> {
    let inside = line.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"')).unwrap_or_else(|| panic!("{line}"));
    let mut word = Vec::new();
    let mut rest = inside.as_bytes();
    while let [byte, tail @ ..] = rest {
        (rest, _) = match (byte, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                (tail, word.push(u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("{line}"))))
            }
            (b'\\', [escaped, tail @ ..]) => (tail, word.push(*escaped)),
            _ => (tail, word.push(*byte)),
        };
    }
    word
}
