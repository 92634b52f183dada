//! Numbers and their units.

/// What a suffix multiplies by (nats-server: `k` is a thousand, `kb`, `ki` and `kib` are 1024, and so on).
pub(crate) fn unit(suffix: &str) -> Option<i64> {
    let suffix = suffix.to_ascii_lowercase();
    let mut chars = suffix.chars();
    let power = match chars.next() {
        None => return Some(1),
        Some(letter) => "kmgtpe".find(letter)? as u32 + 1,
    };
    match chars.as_str() {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

/// A whole number with a unit.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| format!("integer '{text}' is out of the range"))?;
    let unit = unit(suffix).ok_or_else(|| {
        format!(
            "'{suffix}' is no unit; use k, m, g, t, p, e for powers of 1000, kb, mb, … for powers of 1024"
        )
    })?;
    number.checked_mul(unit).ok_or_else(|| format!("integer '{text}' is out of the range"))
}

/// Whether the text is one of the words for true and false.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["true", "yes", "on"]) {
        Some(true)
    } else if is(["false", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// The day of the month is looked at, too: `2016-02-31T00:00:00Z` is no time.
pub(crate) fn is_date(text: &str) -> bool {
    let shape = text.len() == 20
        && text.bytes().zip(*b"0000-00-00T00:00:00Z").all(|(got, want)| match want {
            b'0' => got.is_ascii_digit(),
            want => got == want,
        });
    let field = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (field(0, 4), field(5, 7), field(8, 10)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    let below = |from, to, limit| field(from, to).is_some_and(|n| n < limit);
    shape && (1..=days).contains(&day) && below(11, 13, 24) && below(14, 16, 60) && below(17, 19, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_ten_or_of_two() {
        assert_eq!(integer("2k"), Ok(2000));
        assert_eq!(integer("-2KiB"), Ok(-2048));
        assert_eq!(integer("1Gb"), Ok(1 << 30));
        assert!(integer("9e").is_ok() && integer("10e").is_err());
        assert!(integer("1kbb").unwrap_err().contains("no unit"));
        assert!(integer("99999999999999999999").unwrap_err().contains("out of the range"));
    }

    #[test]
    fn dates_are_days_that_exist() {
        assert!(is_date("2016-02-29T18:53:41Z"));
        assert!(!is_date("2015-02-29T18:53:41Z") && !is_date("2016-05-04T24:00:00Z"));
    }
}
