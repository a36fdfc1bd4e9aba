"""Tests of the operator. Packages, or pytest would import them below `operator` and hide the standard library's."""
