"""Who the user is to a controller: client configurations, their files, and logins at an OpenID provider."""

from __future__ import annotations
