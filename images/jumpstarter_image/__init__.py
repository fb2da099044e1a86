"""Makes one file on the card's FAT partition the configuration of a host that was flashed.

A person writes `jumpstarter.yaml` on a laptop; `jumpstarter-image apply` reads it at each boot and whenever it
changes, and answers with `jumpstarter-status.txt` beside it. What the file says, without the file's secrets,
stays on the FAT; all of it is kept in the state directory, and everything that other programs read is made of
that in /run at each boot. So a root file system that cannot be written is enough, and a power cut leaves
nothing half done.

`update` installs packages on a root that is read-only else, and takes them back; it survives power cuts, too.

Without I/O are `site_text` (bytes and text), `settings` (the file), `kept` (what is known), `plan` (what is
written and started), `sentences` (the status), `update_record` (the steps of an update) and `update_plan` (what
speaks against one). `host`, `fat`, `state`, `apply`, `enrolment`, `status`, `system_packages`, `update_prepare` and
`update_run` deal with the host.
"""
