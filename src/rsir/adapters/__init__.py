"""Other libraries: their trained models generate and judge here, our data trains their models."""
