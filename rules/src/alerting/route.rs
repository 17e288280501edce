//! The routing tree: which nodes an alert takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::config::RouteConfig;
use super::matcher::Matcher;
use crate::labels::Labels;
use crate::logql::ast::MatchOp;

/// The tree of a checked config; nodes know what they inherit.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Route>,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Alertmanager's route id: the matchers from the root on, with the positions.
    pub(super) id: Arc<str>,
    /// The matchers from the root on; the first half of a group key.
    pub(super) key: String,
    pub(super) receiver: Arc<str>,
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
    group_by: GroupBy,
    matchers: Vec<Matcher>,
    continues: bool,
    children: Vec<usize>,
}

#[derive(Clone, Debug)]
enum GroupBy {
    All,
    Labels(BTreeSet<String>),
}

impl Tree {
    pub(super) fn new(root: &RouteConfig) -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.add(root, None, 0);
        tree
    }

    /// The nodes that an alert with these labels takes: depth first, from the left.
    pub(super) fn routes(&self, labels: &Labels) -> Vec<&Route> {
        let mut taken = Vec::new();
        self.walk(0, labels, &mut taken);
        taken.into_iter().map(|at| &self.nodes[at]).collect()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Route> {
        self.nodes.iter().find(|route| *route.id == *id)
    }

    /// Whether the node or one below it takes the alert.
    fn walk(&self, at: usize, labels: &Labels, taken: &mut Vec<usize>) -> bool {
        let node = &self.nodes[at];
        if !node.matchers.iter().all(|matcher| matcher.matches(labels)) {
            return false;
        }
        let before = taken.len();
        for child in &node.children {
            if self.walk(*child, labels, taken) && !self.nodes[*child].continues {
                break;
            }
        }
        if taken.len() == before {
            taken.push(at);
        }
        true
    }

    fn add(&mut self, config: &RouteConfig, parent: Option<usize>, position: usize) -> usize {
        let at = self.nodes.len();
        let route = Route::new(config, parent.map(|parent| &self.nodes[parent]), position);
        self.nodes.push(route);
        for (i, child) in config.routes.iter().enumerate() {
            let child = self.add(child, Some(at), i);
            self.nodes[at].children.push(child);
        }
        at
    }
}

impl Route {
    fn new(config: &RouteConfig, parent: Option<&Self>, position: usize) -> Self {
        let matchers = matchers(config);
        let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
        let own_key = format!("{{{}}}", texts.join(","));
        let (id, key) = match parent {
            Some(parent) => (format!("{}/{own_key}/{position}", parent.id), format!("{}/{own_key}", parent.key)),
            None => (own_key.clone(), own_key),
        };
        let inherited = |own: Option<Duration>, of: fn(&Self) -> Duration, root| own.or(parent.map(of)).unwrap_or(root);
        Self {
            id: id.into(),
            key,
            receiver: match (&config.receiver, parent) {
                (Some(name), _) => name.as_str().into(),
                (None, Some(parent)) => parent.receiver.clone(),
                (None, None) => "".into(),
            },
            group_wait: inherited(config.group_wait, |parent| parent.group_wait, GROUP_WAIT),
            group_interval: inherited(config.group_interval, |parent| parent.group_interval, GROUP_INTERVAL),
            repeat_interval: inherited(config.repeat_interval, |parent| parent.repeat_interval, REPEAT_INTERVAL),
            group_by: match (&config.group_by, parent) {
                (Some(names), _) if names.iter().any(|name| name == "...") => GroupBy::All,
                (Some(names), _) => GroupBy::Labels(names.iter().cloned().collect()),
                (None, Some(parent)) => parent.group_by.clone(),
                (None, None) => GroupBy::Labels(BTreeSet::new()),
            },
            matchers,
            continues: config.r#continue,
            children: Vec::new(),
        }
    }

    /// The labels that an alert is grouped by here.
    pub(super) fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => Labels::new(labels.iter().filter(|(name, _)| names.contains(*name))),
        }
    }
}

/// A route's matchers in Alertmanager's order. Those that cannot be built were told by [`super::config::PolicyConfig::check`].
fn matchers(config: &RouteConfig) -> Vec<Matcher> {
    let equal = config.r#match.iter().map(|(name, value)| Matcher::new(name, MatchOp::Equal, value));
    let regex = config.match_re.iter().map(|(name, value)| Matcher::new(name, MatchOp::Regex, value));
    let mut matchers: Vec<Matcher> = equal.chain(regex).filter_map(Result::ok).collect();
    matchers.extend(config.matchers.iter().flat_map(|matchers| matchers.0.iter().cloned()));
    matchers.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    matchers
}

/// Alertmanager's defaults.
const GROUP_WAIT: Duration = Duration::from_secs(30);
const GROUP_INTERVAL: Duration = Duration::from_secs(300);
const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(tree: &Tree, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = Labels::new(labels.iter().copied());
        tree.routes(&labels).iter().map(|route| format!("{} {}", route.receiver, route.key)).collect()
    }

    #[test]
    fn takes_the_first_that_matches_and_goes_on_where_told() {
        let config: RouteConfig = serde_saphyr::from_str(
            r#"
receiver: all
group_by: [a]
group_wait: 1s
routes:
  - {receiver: audit, matchers: ['severity=~"page|warn"'], continue: true}
  - receiver: pager
    match: {severity: page}
    group_wait: 0s
    group_by: ['...']
    routes:
      - {matchers: ['team="x"', 'b!="c"'], receiver: x}
      - {matchers: [team=y]}
  - {receiver: never, matchers: [severity=page]}
"#,
        )
        .unwrap();
        let tree = Tree::new(&config);
        assert_eq!(taken(&tree, &[("severity", "info")]), ["all {}"]);
        assert_eq!(taken(&tree, &[("severity", "warn")]), [r#"audit {}/{severity=~"page|warn"}"#]);
        assert_eq!(
            taken(&tree, &[("severity", "page"), ("team", "x")]),
            [r#"audit {}/{severity=~"page|warn"}"#, r#"x {}/{severity="page"}/{b!="c",team="x"}"#]
        );
        assert_eq!(taken(&tree, &[("severity", "page"), ("team", "y")])[1], r#"pager {}/{severity="page"}/{team="y"}"#);
        let route = tree.routes(&Labels::new([("severity", "page"), ("team", "y")]))[1];
        assert_eq!(&*route.id, r#"{}/{severity="page"}/1/{team="y"}/1"#);
        assert_eq!((route.group_wait, route.group_interval), (Duration::ZERO, GROUP_INTERVAL));
        assert_eq!(route.group_labels(&Labels::new([("z", "1")])), Labels::new([("z", "1")]));
    }
}
