"""What Sakinis et al. 2019 print: Tables II, III and IV, as an indication beside our figures.

Their test cases of Table III and IV are withheld by the challenge, and their grid is finer than most of ours.
"""

# Table II, our Dices: MSD spleen (a known structure on another data set), MSD colon cancer (unknown), by test clicks.
TABLE_2 = {
    "spleen (MSD)": {1: 0.89, 2: 0.93, 5: 0.95, 10: 0.96, 15: 0.97},
    "colon cancer (MSD)": {1: 0.64, 2: 0.72, 5: 0.81, 10: 0.87, 15: 0.89},
}

# Table III: the BCV test set after 5 clicks; Dice, Hausdorff distance (mm), mean absolute distance (mm).
TABLE_3 = {
    "Sakinis et al. 2019": (0.94023, 7.3693, 0.25351),
    "nnUNet (automatic)": (0.88104, 17.2583, 1.3894),
    "ResNet101KL (automatic)": (0.84968, 18.468, 1.4504),
    "DLTK (U-Net, automatic)": (0.81535, 62.8724, 1.8613),
    "Auto Context (automatic)": (0.7824, 26.0951, 1.9362),
    "DeepSeg (FCN, automatic)": (0.76728, 27.3397, 2.9587),
}

# Table IV, "Ours": Dice, Hausdorff distance (mm), mean absolute distance (mm); None where the paper prints a dash.
TABLE_4: dict[str, tuple[float, float | None, float | None]] = {
    "spleen": (0.978, 4.785, 0.177),
    "right kidney": (0.966, 5.848, 0.239),
    "left kidney": (0.968, None, None),
    "gallbladder": (0.923, None, None),
    "oesophagus": (0.935, 4.303, 0.200),
    "liver": (0.980, 16.582, 0.356),
    "stomach": (0.962, 15.244, 0.343),
    "aorta": (0.967, 3.367, 0.205),
    "inferior vena cava": (0.954, 7.297, 0.249),
    "portal and splenic vein": (0.908, 7.289, 0.2064),
    "pancreas": (0.922, 10.180, 0.351),
    "right adrenal": (0.876, 3.539, 0.215),
    "left adrenal": (0.882, 5.512, 0.234),
}
