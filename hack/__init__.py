"""Tools for people and CI: the local cluster, the images, the demo, the benchmarks. Nothing that ships imports this."""
