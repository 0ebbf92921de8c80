"""The MONAI Label adaptor: thin, the only importer of monailabel, loaded anew with every app (so it keeps no state)."""
