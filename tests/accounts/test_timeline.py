"""A request's life adds up to the run's columns, and words point at the requests they say."""

from __future__ import annotations

import pytest
from conftest import make_run, request_row

