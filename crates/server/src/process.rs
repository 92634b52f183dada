//! What the system says about this process. Zeros where it does not say.

/// Memory and processor time of this process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident bytes.
    pub(crate) memory: u64,
    /// Share of one processor since the start, in percent.
    pub(crate) cpu: f64,
}

impl Usage {
    /// Reads Linux's `/proc` (see proc(5)).
    pub(crate) fn now() -> Self {
        Self::read().unwrap_or_default()
    }

    fn read() -> Option<Self> {
        // Pages are 4 KiB, and ticks a hundredth of a second, wherever Linux's defaults were not changed.
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |n: usize| fields.get(n)?.parse::<f64>().ok();
        let (user, system, start) = (field(11)?, field(12)?, field(19)?);
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        let lived = uptime - start / 100.0;
        let cpu = if lived > 0.0 { (user + system) / lived } else { 0.0 };
        Some(Self { memory: pages * 4096, cpu: (cpu * 10.0).round() / 10.0 })
    }
}
