"""Makes one file on the card's FAT partition the configuration of a host that was flashed.

A person writes `jumpstarter.yaml` on a laptop. `jumpstarter-image apply` reads it at each boot and when it changes, and
writes the result to `jumpstarter-status.txt` beside it. The settings are stored in the state directory; secrets are
removed from the file on the FAT partition. The files that other programs read are written to /run at each boot. So the
root file system can be read-only, and a power cut leaves nothing half done.

`update` makes the read-only root writable, installs packages, and rolls them back if they fail; it survives power cuts.

These modules have no I/O: `site_text` (bytes and text), `settings` (the file), `kept` (the stored settings), `plan`
(the files to write and the units to start), `sentences` (the status), `update_record` (the steps of an update) and
`update_plan` (the objections to an update). `host`, `fat`, `state`, `apply`, `enrolment`, `status`, `system_packages`,
`update_prepare` and `update_run` work on the host.
"""
