// Programs without a dependency, on which a local cluster stands: certificates, a supervisor, the sandbox image's only process.
module soma.test/groundwork

go 1.25
