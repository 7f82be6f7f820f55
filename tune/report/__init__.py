"""RUN/report.html: one file that tells what a search found, and opens without a network.

`document` puts it together, `record` is what a run has to tell, `page` how it becomes HTML; the
other modules are its sections. Everything is read from the run's folder; only mistakes on
validation data are computed anew.
"""
