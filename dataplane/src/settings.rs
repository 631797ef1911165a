//! What of the configuration may change while the process runs: the addresses that candidates carry,
//! and the log's filter. Set by the hub when the control plane says so, read by the workers for each
//! new transport; never on the path of a packet.

use std::sync::{Arc, PoisonError, RwLock};

use ironcast_config::{Announced, Config};
use ironcast_protocol::{CommandError, ErrorCode, command};
use tracing_subscriber::EnvFilter;

/// Takes another filter for the log.
pub type SetLog = Arc<dyn Fn(EnvFilter) + Send + Sync>;

/// See the file's head.
pub struct Settings {
    announced: RwLock<Arc<[Announced]>>,
    has_single_port: bool,
    set_log: SetLog,
}

impl Settings {
    /// As the process was started with.
    #[must_use]
    pub fn new(config: &Config, set_log: SetLog) -> Self {
        let announced = RwLock::new(config.rtc.announced_address.clone().into());
        Self { announced, has_single_port: config.rtc.single_port.is_some(), set_log }
    }

    /// What candidates carry in place of the host's addresses.
    #[must_use]
    pub fn announced(&self) -> Arc<[Announced]> {
        Arc::clone(&self.announced.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes others; all or none.
    pub fn apply(&self, settings: &command::Settings) -> Result<(), CommandError> {
        let invalid = |message: String| CommandError::new(ErrorCode::Invalid, message);
        let announced = settings.announced.iter();
        let announced: Vec<_> =
            announced.map(|one| Announced { ip: one.ip, port: one.port }).collect();
        if !self.has_single_port && announced.iter().any(|one| one.port.is_some()) {
            return Err(invalid("a port can be announced only with rtc.single_port".into()));
        }
        let filter = EnvFilter::try_new(&settings.log_filter);
        let filter = filter.map_err(|error| invalid(format!("the log's filter: {error}")))?;
        *self.announced.write().unwrap_or_else(PoisonError::into_inner) = announced.into();
        (self.set_log)(filter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn announced(port: Option<u16>) -> Vec<command::Announced> {
        vec![command::Announced { ip: [203, 0, 113, 7].into(), port }]
    }

    #[test]
    fn other_settings_are_taken_all_or_none() {
        static SET: AtomicU32 = AtomicU32::new(0);
        let set_log = || -> SetLog {
            {
                Arc::new(|_| {
                    SET.fetch_add(1, Ordering::Relaxed);
                })
            }
        };
        let settings = Settings::new(&Config::default(), set_log());
        assert!(settings.announced().is_empty());
        let good = command::Settings { announced: announced(None), log_filter: "warn".into() };
        settings.apply(&good).unwrap();
        assert_eq!(settings.announced().len(), 1);
        for bad in [
            command::Settings { announced: Vec::new(), log_filter: "ironcast=loud".into() },
            command::Settings { announced: announced(Some(3_478)), log_filter: "warn".into() },
        ] {
            assert_eq!(settings.apply(&bad).unwrap_err().code, ErrorCode::Invalid);
            assert_eq!(settings.announced()[0].port, None);
        }
        assert_eq!(SET.load(Ordering::Relaxed), 1);
        let mut config = Config::default();
        config.rtc.single_port = Some(3_478);
        let settings = Settings::new(&config, set_log());
        let mapped = command::Settings { announced: announced(Some(9)), log_filter: "info".into() };
        settings.apply(&mapped).unwrap();
        assert_eq!(settings.announced()[0].port, Some(9));
    }
}
