"""What several tests of the server's datastore begin with."""

import nibabel as nib
import numpy as np
import pytest

from lib.server.datastore import careful as made_careful


@pytest.fixture
def careful(datastore):
    return made_careful(datastore)


@pytest.fixture
def label_map(careful, tmp_path):
    """label_map(value, image): the path of a label map of an image, of one value."""

    def write(value, image="a"):
        like = nib.load(careful.get_image_uri(image))
        path = tmp_path / f"label{value}.nii.gz"
        nib.save(nib.Nifti1Image(np.full(like.shape, value, np.uint8), like.affine), path)
        return str(path)

    return write
