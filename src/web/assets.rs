//! The files of the page. They are part of the program: the page loads nothing from elsewhere.

/// A file with its content type.
pub(super) struct Asset {
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

pub(super) const PAGE: Asset = Asset { kind: "text/html; charset=utf-8", text: include_str!("assets/index.html") };
pub(super) const LOGIN: Asset = Asset { kind: "text/html; charset=utf-8", text: include_str!("assets/login.html") };
pub(super) const STYLE: Asset = Asset { kind: "text/css; charset=utf-8", text: include_str!("assets/style.css") };
pub(super) const SCRIPT: Asset = Asset { kind: "text/javascript; charset=utf-8", text: include_str!("assets/page.js") };

#[cfg(test)]
mod tests {
    use super::*;

    /// The files contain nothing that could run text of servers as code, or load something from elsewhere.
    #[test]
    fn the_page_loads_nothing_from_other_sites_and_inserts_no_markup() {
        for asset in [PAGE, LOGIN, STYLE, SCRIPT] {
            for word in [
                "://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=",
                " onclick=",
            ] {
                let allowed = asset.text.replace("http://www.w3.org/2000/svg", "");
                assert!(!allowed.contains(word), "{word} in a file of {}", asset.kind);
            }
        }
    }
}
