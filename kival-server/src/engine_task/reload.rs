//! DEBUG RELOAD: the store is closed and opened again, as a restart would, under clients that stay.

use super::EngineTask;
use crate::config::Config;
use crate::server::ServerError;
use kival_engine::{Engine, OpenError};

impl EngineTask {
    /// Closes the store and opens it again. Who asked for that is answered; nobody else notices.
    ///
    /// # Errors
    /// The store was not closed cleanly or cannot be opened: nobody can be served any more.
    pub(super) fn reload(
        mut self,
        open: &impl Fn(&Config) -> Result<Engine, OpenError>,
    ) -> Result<EngineTask, ServerError> {
        self.server.reload = false;
        self.store.engine().sync()?;
        self.release_held();
        let config = &self.server.config;
        self.store = self.store.reopened(|engine| {
            engine.close()?;
            Ok::<_, ServerError>(open(config)?)
        })?;
        let events = config.notify_keyspace_events;
        self.store.set_events(events);
        // The new one counts backups from 0, and knows the server's policy only.
        self.server.saves.made = 0;
        self.server.durability_changed = true;
        self.end_waits();
        Ok(self)
    }
}
