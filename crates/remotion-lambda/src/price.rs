//! What renders cost, about.

use crate::Error;
use crate::region::Partition;

/// AWS's prices in a region, on ARM, in its currency: for a request, a GB-second of memory, a GB-second of disk.
///
/// Taken from AWS's public price list, as of Remotion 4.0.527.
const PRICES: [(&str, f64, f64, f64); 25] = [
    ("af-south-1", 2.7e-7, 1.768e-5, 4.04e-8),
    ("ap-east-1", 2.8e-7, 1.83e-5, 4.07e-8),
    ("ap-northeast-1", 2e-7, 1.33334e-5, 3.7e-8),
    ("ap-northeast-2", 2e-7, 1.33334e-5, 3.52e-8),
    ("ap-northeast-3", 2e-7, 1.33334e-5, 3.7e-8),
    ("ap-south-1", 2e-7, 1.33334e-5, 3.52e-8),
    ("ap-southeast-1", 2e-7, 1.33334e-5, 3.7e-8),
    ("ap-southeast-2", 2e-7, 1.33334e-5, 3.7e-8),
    ("ap-southeast-4", 2e-7, 1.33334e-5, 3.7e-8),
    ("ap-southeast-5", 1.8e-7, 1.2e-5, 3.33e-8),
    ("ca-central-1", 2e-7, 1.33334e-5, 3.4e-8),
    ("cn-north-1", 1.36e-6, 9.08e-5, 2.303e-7),
    ("cn-northwest-1", 1.36e-6, 9.08e-5, 2.049e-7),
    ("eu-central-1", 2e-7, 1.33334e-5, 3.67e-8),
    ("eu-central-2", 2.2e-7, 1.46667e-5, 4.41e-8),
    ("eu-north-1", 2e-7, 1.33334e-5, 3.23e-8),
    ("eu-south-1", 2.3e-7, 1.56138e-5, 3.57e-8),
    ("eu-west-1", 2e-7, 1.33334e-5, 3.4e-8),
    ("eu-west-2", 2e-7, 1.33334e-5, 3.58e-8),
    ("eu-west-3", 2e-7, 1.33334e-5, 3.58e-8),
    ("sa-east-1", 2e-7, 1.33334e-5, 5.86e-8),
    ("us-east-1", 2e-7, 1.33334e-5, 3.09e-8),
    ("us-east-2", 2e-7, 1.33334e-5, 3.09e-8),
    ("us-west-1", 2e-7, 1.33334e-5, 3.7e-8),
    ("us-west-2", 2e-7, 1.33334e-5, 3.09e-8),
];

/// Disk that costs nothing, in MB.
const FREE_DISK: u32 = 512;

/// What is estimated; see [`estimate_price`].
#[derive(Clone, Debug, PartialEq)]
pub struct EstimatePriceOptions {
    /// AWS's name of the region.
    pub region: String,
    /// How long all functions ran, together, in milliseconds.
    pub duration_in_milliseconds: f64,
    /// Memory of the function, in MB.
    pub memory_size_in_mb: u32,
    /// Disk of the function, in MB.
    pub disk_size_in_mb: u32,
    /// How many functions ran.
    pub lambdas_invoked: u32,
}

/// About what functions cost, in US dollars; in China in yuan. Rounded to five decimals. Without storage and traffic.
///
/// # Errors
/// [`Error::Invalid`] for a region whose prices are not known, and for a duration that is none.
pub fn estimate_price(options: &EstimatePriceOptions) -> Result<f64, Error> {
    let duration = options.duration_in_milliseconds;
    if !duration.is_finite() || duration < 0.0 {
        let message = format!("{duration} is not a duration");
        return Err(Error::Invalid { option: "durationInMilliseconds", message });
    }
    let Some((_, request, memory, disk)) = PRICES.iter().find(|(region, ..)| *region == options.region)
    else {
        let message = format!("the prices of {} are not known", options.region);
        return Err(Error::Invalid { option: "region", message });
    };
    let seconds = duration / 1000.0;
    let gigabytes = f64::from(options.memory_size_in_mb) / 1024.0;
    let charged = f64::from(options.disk_size_in_mb.saturating_sub(FREE_DISK)) / 1024.0;
    let total = memory * gigabytes * seconds
        + disk * charged * seconds
        + request * f64::from(options.lambdas_invoked);
    Ok((total * 1e5).round() / 1e5)
}

/// What was spent so far, for a person: `$0.010`.
pub(crate) fn display(amount: f64, region: &str) -> String {
    let sign = if Partition::of(region).currency == "CNY" { "¥" } else { "$" };
    if amount < 0.001 {
        return format!("<{sign}0.001");
    }
    // Whole thousands are grouped, as English has it; no render costs a million.
    let text = format!("{amount:.3}");
    match text.find('.') {
        Some(point) if point > 3 => format!("{sign}{},{}", &text[..point - 3], &text[point - 3..]),
        _ => format!("{sign}{text}"),
    }
}
