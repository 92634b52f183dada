//! All connections of a router.

use std::sync::Arc;

use crate::conn::{Conn, NewConn};
use crate::sync::RwLock;

/// All connections of a router, by place.
#[derive(Debug, Default)]
pub(crate) struct ConnTable(RwLock<Conns>);

/// The connections, while the table is locked for reading.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<Option<Arc<Conn>>>,
    free: Vec<u32>,
}

impl Conns {
    pub(crate) fn get(&self, index: u32) -> Option<&Arc<Conn>> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Conn>> {
        self.slots.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl ConnTable {
    pub(crate) fn add(&self, new: NewConn) -> Arc<Conn> {
        let mut guard = self.0.write();
        let conns = &mut *guard;
        let index = conns.free.pop().unwrap_or_else(|| {
            conns.slots.push(None);
            (conns.slots.len() - 1) as u32
        });
        let conn = Arc::new(Conn::new(new, index));
        if let Some(slot) = conns.slots.get_mut(index as usize) {
            *slot = Some(conn.clone());
        }
        conn
    }

    pub(crate) fn remove(&self, conn: &Conn) {
        let mut conns = self.0.write();
        let Some(slot) = conns.slots.get_mut(conn.index() as usize) else { return };
        if slot.take().is_some() {
            conns.free.push(conn.index());
        }
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&Conns) -> T) -> T {
        read(&self.0.read())
    }
}
