//! Who is let into the network, as far as this router's operator says.
//!
//! Lives here: what the API's questions about invitations and friends do. Does not live here: lines
//! (`invite`), files of friends (`driver/friends.rs`).

use warren_overlay::{id::RouterId, ring::admission::Network};

use super::Task;
use crate::{
    driver::friends::{self, FriendRequest},
    home::Home,
    node::NodeInput,
};

impl Task {
    /// Signs for a newcomer. That it did is written down before anybody sees the line.
    pub(super) fn invite_for(&mut self, newcomer: RouterId) -> Result<String, String> {
        let signed = self.host.invite_for(self.clock.now(), newcomer);
        let (invite, given) = signed.map_err(|error| error.to_string())?;
        if let Some(home) = &self.home {
            home.write("invited", &given).map_err(|error| error.to_string())?;
        }
        if invite.routers.is_empty() {
            return Err(
                "nobody can dial this router and it knows no other: ask another member".into()
            );
        }
        Ok(invite.to_line())
    }

    pub(super) fn befriend(&mut self, request: &FriendRequest) -> Result<String, String> {
        let name = self.with_friends(|home, network| friends::take(home, network, request))?;
        self.tell_friends().map(|()| name)
    }

    pub(super) fn unfriend(&mut self, name: &str) -> Result<(), String> {
        self.with_friends(|home, network| friends::remove(home, network, name))?;
        self.tell_friends()
    }

    /// All friends there are now, to the node.
    fn tell_friends(&mut self) -> Result<(), String> {
        let all = self.with_friends(friends::load)?;
        let all = all.into_iter().map(|(_, friend)| friend).collect();
        self.host.node(self.clock.now(), NodeInput::Friends(all));
        Ok(())
    }

    fn with_friends<T>(
        &self,
        act: impl FnOnce(&Home, &Network) -> Result<T, crate::driver::StartError>,
    ) -> Result<T, String> {
        let home = self.home.as_deref().ok_or("this router keeps nothing: start it with --dir")?;
        let network = self.host.node_ref().network_settings();
        act(home, network).map_err(|error| error.to_string())
    }
}
