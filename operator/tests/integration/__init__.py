"""Tests of the operator. A package, or pytest would import them below the name `operator` and hide the standard library's module."""
