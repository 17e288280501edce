//! Floats reckoned with as the decimals that they print as, as the library decimal does: 0.1 + 0.2 is 0.3.

/// `mantissa * 10^exponent`
#[derive(Clone, Copy)]
struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// `a + b`
pub(super) fn add(a: f64, b: f64) -> Result<f64, String> {
    Ok(aligned(a, b).and_then(|(x, y, exponent)| Some(float(x.checked_add(y)?, exponent))).unwrap_or(a + b))
}

/// `a - b`
pub(super) fn subtract(a: f64, b: f64) -> Result<f64, String> {
    add(a, -b)
}

/// `a * b`
pub(super) fn multiply(a: f64, b: f64) -> Result<f64, String> {
    let product = || {
        let (x, y) = (Decimal::of(a)?, Decimal::of(b)?);
        Some(float(x.mantissa.checked_mul(y.mantissa)?, x.exponent + y.exponent))
    };
    Ok(product().unwrap_or(a * b))
}

/// `a / b`, rounded to 16 places.
pub(super) fn divide(a: f64, b: f64) -> Result<f64, String> {
    if b == 0.0 {
        return Err("decimal division by 0".into());
    }
    let quotient = || {
        let (x, y) = (Decimal::of(a)?, Decimal::of(b)?);
        let shift = u32::try_from(PLACES + x.exponent - y.exponent).ok()?;
        let dividend = x.mantissa.checked_mul(10i128.checked_pow(shift)?)?;
        let (whole, rest) = (dividend / y.mantissa, dividend % y.mantissa);
        let is_half = rest.unsigned_abs().checked_mul(2)? >= y.mantissa.unsigned_abs();
        let away = if (dividend < 0) == (y.mantissa < 0) { 1 } else { -1 };
        Some(float(if is_half { whole + away } else { whole }, -PLACES))
    };
    Ok(quotient().unwrap_or(a / b))
}

impl Decimal {
    /// `None` of what is not finite.
    fn of(number: f64) -> Option<Self> {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let places = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let mantissa = mantissa.replace('.', "").parse().ok()?;
        Some(Self { mantissa, exponent: exponent.parse::<i32>().ok()? - places as i32 })
    }
}

/// Both mantissas over the smaller of the exponents.
fn aligned(a: f64, b: f64) -> Option<(i128, i128, i32)> {
    let (x, y) = (Decimal::of(a)?, Decimal::of(b)?);
    let exponent = x.exponent.min(y.exponent);
    let shifted = |number: Decimal| {
        let shift = u32::try_from(number.exponent - exponent).ok()?;
        number.mantissa.checked_mul(10i128.checked_pow(shift)?)
    };
    Some((shifted(x)?, shifted(y)?, exponent))
}

fn float(mantissa: i128, exponent: i32) -> f64 {
    format!("{mantissa}e{exponent}").parse().unwrap_or(0.0)
}

/// Places behind the point that a quotient has.
const PLACES: i32 = 16;
