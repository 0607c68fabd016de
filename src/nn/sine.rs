//! Squared sine, vectorised.

/// `sin²(x)` of radians, within 3e-7 up to ±10⁴, and in [0, 1] beyond.
///
/// The compiler vectorises it, unlike a call of the system's sine per number.
#[inline]
pub(super) fn sine_squared(x: f32) -> f32 {
    /// Adding and subtracting this rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// π in three parts, of which the first two have so few bits that their multiples are exact (Cody and
    /// Waite, 1980).
    const PI: [f32; 3] = [3.140_625, 9.675_026e-4, 1.509_958e-7];
    // The square has a period of π. The rest goes through the sine's series up to the 13th power.
    let turns = (x * std::f32::consts::FRAC_1_PI + ROUND) - ROUND;
    let rest = ((x - turns * PI[0]) - turns * PI[1]) - turns * PI[2];
    // Angles beyond f32's precision must not leave the series' range.
    let rest = rest.clamp(-1.6, 1.6);
    let square = rest * rest;
    let series = 1.605_904_4e-10_f32;
    let series = series * square - 2.505_210_8e-8;
    let series = series * square + 2.755_732e-6;
    let series = series * square - 1.984_127e-4;
    let series = series * square + 8.333_333e-3;
    let series = series * square - 1.666_666_7e-1;
    let sine = rest + rest * square * series;
    sine * sine
}
