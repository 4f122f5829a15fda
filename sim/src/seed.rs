//! Seeds as people give them.

/// Digits of a commit hash that make a seed: 48 bits, so that a seed and many after it stay
/// below 2^53 and JSON readers that know only doubles keep them exact.
const DIGITS: usize = 12;

/// Reads a seed: decimal, hexadecimal with `0x`, or a commit hash of 40 hexadecimal digits, which
/// stands for its first 12.
///
/// # Errors
/// A sentence that says what a seed looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    let plain = text.replace('_', "");
    let hexadecimal = plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parsed = if plain.len() == 40 && hexadecimal {
        u64::from_str_radix(&plain[..DIGITS], 16).ok()
    } else if let Some(digits) = plain.strip_prefix("0x").or(plain.strip_prefix("0X")) {
        let digits = Some(digits).filter(|digits| !digits.starts_with(['+', '-']));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    } else {
        let digits = plain.bytes().all(|byte| byte.is_ascii_digit());
        plain.parse().ok().filter(|_| digits)
    };
    if parsed.is_none() && !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`{text}` is too large for a seed: they have 64 bits"
        ));
    }
    parsed.ok_or_else(|| {
        format!("`{text}` is not a seed: a number, 0x and hexadecimal digits, or a commit hash")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    proptest! {
        #[test]
        fn decimal_and_hexadecimal_come_back(seed: u64) {
            prop_assert_eq!(parse(&seed.to_string()), Ok(seed));
            prop_assert_eq!(parse(&format!("{seed:#x}")), Ok(seed));
            prop_assert_eq!(parse(&format!("0X{seed:016X}")), Ok(seed));
        }

        #[test]
        fn a_commit_hash_is_its_first_twelve_digits(hash in "[0-9a-f]{40}") {
            let expected = u64::from_str_radix(&hash[..12], 16).expect("hexadecimal");
            prop_assert_eq!(parse(&hash), Ok(expected));
            prop_assert_eq!(parse(&hash.to_uppercase()), Ok(expected));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,44}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "0x",
            "-1",
            "+1",
            "0x+1",
            "abc",
            "18446744073709551616",
            "1.5",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
