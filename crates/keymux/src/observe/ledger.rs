//! The ledger's health as metrics, read when somebody asks for them.

use keymux_store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::sync::Arc;

pub(super) struct Ledger(pub(super) Arc<Store>);

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl Collector for Ledger {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let health = self.0.health();
        let fill = &health.fill;
        let gauges = [
            ("ledger_up", "Whether the ledger's database takes rows", None, u64::from(health.away.is_none())),
            (
                "ledger_buffered_entries",
                "Entries in memory, not in the log yet",
                None,
                health.buffered as u64,
            ),
            ("ledger_log", "The log: what waits for the database or is open", Some(Unit::Bytes), fill.bytes),
            ("ledger_log_capacity", "The size of the log", Some(Unit::Bytes), fill.capacity),
            ("ledger_log_rows", "Rows in the log that the database lacks", None, fill.rows),
            ("ledger_open_reservations", "Reservations of money that are open", None, fill.open),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let counters = [
            ("ledger_rows", "Rows that the database took", None, health.applied),
            ("ledger_lost_entries", "Entries that were lost: log and memory were full", None, health.lost),
            (
                "ledger_damaged",
                "Damaged bytes that were cut out of the log",
                Some(Unit::Bytes),
                health.damaged_bytes,
            ),
        ];
        for (name, help, unit, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
