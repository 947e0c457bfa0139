"""The buildpack, built and booted as Heroku does it."""
