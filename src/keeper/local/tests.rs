use super::*;

async fn conformer(test: &str) -> (Kept, String) {
    (Kept::new(), format!("/{test}"))
}

/// A state directory that goes with its coordinator.
struct Kept {
    coordinator: LocalCoordinator,
    _folder: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { coordinator: LocalCoordinator::new(folder.path().join("state")), _folder: folder }
    }
}

#[async_trait]
impl Coordinator for Kept {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        self.coordinator.session().await
    }

    fn place(&self) -> String {
        self.coordinator.place()
    }
}

crate::keeper_conformance!(conformer);
