//! Tests of the files that are shipped, and of the documentation.

// The dependencies between crates and files.
mod arrows;
// The examples for callers with their own code, and the packages of the clients.
mod callers;
// The Markdown files: links, commands, answers.
mod documentation;
// The cargo features of builds.
mod features;
// The Helm chart.
mod helm;
// The files for Railway and Render.
mod hosting;
// The Dockerfile, and the files beside it.
mod images;
// The manifests for Kubernetes.
mod kubernetes;
// The examples in each language.
mod languages;
// The examples for reverse proxies.
mod reverse_proxy;
// The programs of docs/recipes.md.
mod recipes;
// The figures in README.md.
mod report;
// The list of the servers that the module is tested on.
mod servers;
// The version, in every file that repeats it.
mod version;
