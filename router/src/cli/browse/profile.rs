//! A browser profile that is used once, and what keeps the browser inside the overlay.
//!
//! Lives here: Chromium's flags and Firefox's preferences, each for a way out that was seen or is
//! documented. Does not live here: the proxy's own refusals (docs/spec/front-door.md): whatever
//! reaches it for a name outside goes nowhere.

use std::{
    ffi::OsString, fmt::Write, fs, io, net::SocketAddr, os::unix::fs::DirBuilderExt, path::PathBuf,
};

use crate::entropy;

/// Parts of Chromium that talk to others by themselves: its maker's services, devices on the local
/// network (multicast, past every proxy), names tried over HTTPS first.
const FEATURES_OFF: &str = "--disable-features=MediaRouter,DialMediaRouteProvider,AsyncDns,\
                            OptimizationHints,Translate,HttpsUpgrades,\
                            HttpsFirstBalancedModeAutoEnable,SpareRendererForSitePerProcess,\
                            NetworkTimeServiceQuerying";

/// Flags of Chromium that need no value of ours.
const CHROMIUM: [&str; 20] = [
    // Loopback goes to the proxy too, which refuses it: pages must not reach this machine's ports.
    "--proxy-bypass-list=<-loopback>",
    // WebRTC sends nothing past the proxy. Both are needed: one alone was seen to leak.
    "--force-webrtc-ip-handling-policy",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    // Whatever would still ask for a name gets none.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--dns-prefetch-disable",
    "--disable-quic",
    "--no-pings",
    FEATURES_OFF,
    // Nothing of its maker's.
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--disable-breakpad",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
];

/// Preferences of Firefox besides the proxy's address.
const FIREFOX: [(&str, &str); 34] = [
    ("network.proxy.type", "1"),
    ("network.proxy.no_proxies_on", "\"\""),
    ("network.proxy.allow_hijacking_localhost", "true"),
    ("network.proxy.failover_direct", "false"),
    ("network.proxy.socks_remote_dns", "true"),
    ("network.dns.disabled", "true"),
    ("network.dns.disablePrefetch", "true"),
    ("network.dns.disablePrefetchFromHTTPS", "true"),
    ("network.trr.mode", "5"),
    ("network.prefetch-next", "false"),
    ("network.predictor.enabled", "false"),
    ("network.http.speculative-parallel-limit", "0"),
    ("network.http.http3.enable", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("browser.urlbar.speculativeConnect.enabled", "false"),
    ("browser.places.speculativeConnect.enabled", "false"),
    ("media.peerconnection.enabled", "false"),
    ("media.gmp-provider.enabled", "false"),
    ("privacy.resistFingerprinting", "true"),
    ("privacy.firstparty.isolate", "true"),
    ("dom.security.https_only_mode", "false"),
    ("dom.security.https_first", "false"),
    ("keyword.enabled", "false"),
    ("browser.fixup.alternate.enabled", "false"),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("browser.search.suggest.enabled", "false"),
    ("app.normandy.enabled", "false"),
    ("app.update.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.update.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
    ("toolkit.telemetry.unified", "false"),
];

/// A folder for one run of a browser, removed afterwards.
#[derive(Debug)]
pub(super) struct Profile {
    dir: PathBuf,
}

impl Profile {
    /// Makes it where temporary files live, for this user alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make() -> io::Result<Self> {
        let unique = data_encoding::HEXLOWER.encode(&entropy::generator().bytes::<8>());
        let dir = std::env::temp_dir().join(format!("warren-browse-{unique}"));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    /// Flags of Chromium. As an HTTP proxy the router can say why a page does not come.
    pub(super) fn chromium(&self, proxy: SocketAddr) -> Vec<OsString> {
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(&self.dir);
        let mut flags = vec![profile, format!("--proxy-server=http://{proxy}").into()];
        flags.extend(CHROMIUM.map(OsString::from));
        flags
    }

    /// Flags of Firefox; its preferences are written into the profile.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn firefox(&self, proxy: SocketAddr) -> io::Result<Vec<OsString>> {
        let mut all: Vec<(String, String)> =
            FIREFOX.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for kind in ["http", "ssl", "socks"] {
            all.push((format!("network.proxy.{kind}"), format!("\"{}\"", proxy.ip())));
            all.push((format!("network.proxy.{kind}_port"), proxy.port().to_string()));
        }
        let mut lines = String::new();
        for (key, value) in all {
            let _ = writeln!(lines, "user_pref(\"{key}\", {value});");
        }
        fs::write(self.dir.join("user.js"), lines)?;
        let flags = ["--no-remote", "--new-instance", "--profile"].map(OsString::from);
        Ok(flags.into_iter().chain([self.dir.clone().into()]).collect())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Its last processes may still write: a second try takes what the first one missed.
        let _ = fs::remove_dir_all(&self.dir).or_else(|_| fs::remove_dir_all(&self.dir));
    }
}
