"""The files of examples/, and the steps of docs/deploy.md."""
