//! Where things are on this machine is nobody's business who renders on it: paths are cut to the part that means
//! something to whoever wrote the site.

use std::path::Path;

use lastframe_core::Failure;

use super::sidecar::Event;

/// What paths begin with and nobody shall read.
#[derive(Clone, Debug)]
pub(super) struct Private(Vec<String>);

impl Private {
    /// Of a server whose bundles lie in `sites`, with a renderer of a project.
    pub(super) fn new(sites: &Path, renderer: &Path) -> Self {
        let data = sites.parent();
        let project =
            renderer.ancestors().find(|folder| folder.ends_with("node_modules")).and_then(Path::parent);
        // What is a link on its way is shown by its end in some messages.
        let real = project.and_then(|project| project.canonicalize().ok());
        let mut prefixes: Vec<_> = [data, project, real.as_deref()]
            .into_iter()
            .flatten()
            .filter(|folder| folder.parent().is_some())
            .map(|folder| format!("{}/", folder.display()))
            .collect();
        prefixes.sort_unstable_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        prefixes.dedup();
        Self(prefixes)
    }

    pub(super) fn cut(&self, text: &mut String) {
        for prefix in self.0.iter().filter(|prefix| !prefix.is_empty()) {
            if text.contains(prefix.as_str()) {
                *text = text.replace(prefix.as_str(), "");
            }
        }
    }

    /// Cuts whatever of it a client will read.
    pub(super) fn cut_event(&self, event: &mut Event) {
        match event {
            Event::Log { text, .. } => self.cut(text),
            Event::Failed { error } => self.cut_failure(error),
            Event::Compositions { compositions } => {
                compositions
                    .iter_mut()
                    .filter_map(|composition| composition.error.as_mut())
                    .for_each(|error| self.cut(error));
            }
            _ => {}
        }
    }

    fn cut_failure(&self, failure: &mut Failure) {
        self.cut(&mut failure.message);
        if let Some(stack) = &mut failure.stack {
            self.cut(stack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_what_says_where_they_are_and_keep_what_they_mean() {
        let private = Private::new(
            Path::new("/srv/data/sites"),
            Path::new("/home/ann/film/node_modules/@remotion/renderer"),
        );
        let mut text = String::from(
            "ffmpeg: /srv/data/work/1/a.mp4: no space\n at render (/home/ann/film/node_modules/@remotion/renderer/dist/x.js:1:2)\n at src/Main.tsx:3:4",
        );
        private.cut(&mut text);
        assert_eq!(
            text,
            "ffmpeg: work/1/a.mp4: no space\n at render (node_modules/@remotion/renderer/dist/x.js:1:2)\n at src/Main.tsx:3:4"
        );
        let mut text = String::from("/etc/fonts and http://localhost:3000/bundle.js:1:2");
        Private::new(Path::new("/sites"), Path::new("/node_modules/@remotion/renderer")).cut(&mut text);
        assert_eq!(text, "/etc/fonts and http://localhost:3000/bundle.js:1:2");
    }
}
