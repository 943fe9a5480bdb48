//! Words and sentences.

use rand::Rng;

const ONSETS: [&str; 20] = [
    "b", "br", "c", "cl", "d", "dr", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "r", "s", "st",
    "t", "v",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const CODAS: [&str; 10] = ["", "", "l", "m", "n", "r", "s", "t", "nd", "rk"];

/// One element of a list that is not empty.
pub(crate) fn pick<'a, T>(rng: &mut impl Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}

/// Appends a word of one to three invented syllables.
pub(crate) fn push_word(rng: &mut impl Rng, text: &mut String) {
    for _ in 0..rng.random_range(1..=3) {
        text.push_str(pick::<&str>(rng, &ONSETS));
        text.push_str(pick::<&str>(rng, &VOWELS));
        text.push_str(pick::<&str>(rng, &CODAS));
    }
}

/// `count` words with spaces between them.
pub(crate) fn words(rng: &mut impl Rng, count: usize) -> String {
    let mut text = String::new();
    for position in 0..count {
        if position > 0 {
            text.push(' ');
        }
        push_word(rng, &mut text);
    }
    text
}

/// Running text of exactly `bytes` bytes: sentences with a number here and there, all ASCII.
pub(crate) fn prose(rng: &mut impl Rng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    while text.len() < bytes {
        match rng.random_range(0..12_u8) {
            0 => text.push_str(&rng.random::<u32>().to_string()),
            1 => {
                push_word(rng, &mut text);
                text.push('.');
            }
            _ => push_word(rng, &mut text),
        }
        text.push(' ');
    }
    text.truncate(bytes);
    text
}
