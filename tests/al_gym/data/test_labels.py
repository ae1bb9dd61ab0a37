"""The label csv: what a line may name and say, and the errors that name the line."""

import pytest

from al_gym.data import labels

IMAGES = ["1.png", "a/2.nii.gz", "a/b.c.png", "s/p1/0001", "s/p1/0002", "t.jpg", "t.png"]


def read(tmp_path, text, excluded=(), images=IMAGES):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return labels.read(path, tmp_path, images, excluded)[0]


def test_what_a_line_names(tmp_path):
    text = "file;label\n1;x\n./a/2;x\na\\b.c.png;y\ns/p1;z\nt.png;\n"
    found = read(tmp_path, text)
    assert {name: line.label for name, line in found.items()} == {
        "1.png": "x", "a/2.nii.gz": "x", "a/b.c.png": "y", "s/p1/0001": "z", "s/p1/0002": "z",
        "t.png": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "images", "named"),
    [
        ("1.png", ["images/1.png", "images/2.png"], "images/1.png"),  # no folder
        ("ISIC_1", ["part_1/ISIC_1.jpg", "part_2/ISIC_2.jpg"], "part_1/ISIC_1.jpg"),
        ("1.png", ["x/1.png", "1.png"], "1.png"),
        ("A/1.PNG", ["a/1.png", "a/2.png"], "a/1.png"),  # other capitals
        ("1.PNG", ["1.png", "1.PNG"], "1.PNG"),
        ("M\u00fcller/1", ["Mu\u0308ller/1.png"], "Mu\u0308ller/1.png"),  # as a Mac writes it
    ],
)
def test_a_name_that_fits_one_image_alone(tmp_path, name, images, named):
    assert list(read(tmp_path, f"file,label\n{name},x\n", images=images)) == [named]


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("1.png", ["x/1.png", "y/1.png"]),
        ("1", ["x/1.png", "x/z/1.png"]),
        ("a.PNG", ["a.png", "A.png"]),
        ("p1", ["P1/1.png", "p1/2.png"]),
    ],
)
def test_a_name_that_fits_several_is_refused(tmp_path, name, images):
    message = rf"line 2: {name} may be {images[0]} or {images[1]}: write the path and ending"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, f"file,label\n{name},x\n", images=images)


def test_names_without_their_folders_are_said(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,label\n1.png,x\n0002,y\n")
    notes = labels.read(path, tmp_path, IMAGES, [])[1]
    assert notes == ("labels.csv: named without their folders: s/p1/0002",)


def test_absolute_paths_in_the_folder(tmp_path):
    found = read(tmp_path, f"file,label\n{tmp_path}/a/2.nii.gz,x\n")
    assert list(found) == ["a/2.nii.gz"]
    with pytest.raises(ValueError, match="line 2: file must be a path below"):
        read(tmp_path, f"file,label\n{tmp_path}/../1.png,x\n")


def test_patient_and_split(tmp_path):
    found = read(tmp_path, "file,label,Patient,Split\n1,x,600000.0,VALID\na/2,y,q,Training\n")
    assert [(line.patient, line.split) for line in found.values()] == [
        ("600000", "validation"), ("q", "train"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "ours"),
    [
        ("patient_id", "patient"), ("PatientID", "patient"), ("Patient ID", "patient"),
        ("subject", "patient"), ("Subject-ID", "patient"), ("case", "patient"),
        ("set", "split"), ("Fold", "split"), ("partition", "split"), ("dataset", "split"),
    ],
)  # fmt: skip
def test_a_column_that_may_be_the_patient_or_split_is_not_passed_over(tmp_path, column, ours):
    with pytest.raises(ValueError, match=rf"(?i)labels.csv: the column '{column}'.* to {ours};"):
        read(tmp_path, f"file,label,{column}\n1,x,train\n")
    found = read(tmp_path, f"file,label,{ours},{column}\n1,x,train,7\n")
    assert getattr(found["1.png"], ours) == "train"


def test_other_columns_that_are_not_read_are_said(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,label,Age,sex,Patient\n1,x,70,f,p\n")
    notes = labels.read(path, tmp_path, IMAGES, [])[1]
    assert notes == ("labels.csv: columns that are not read: age, sex",)


def test_numbers_are_sorted_as_numbers(tmp_path):
    found = read(tmp_path, "file,label\n1,10\na/2,2.0\na/b.c,2\n")
    assert labels.class_names({line.label for line in found.values()}) == ("2", "10")
    assert labels.class_names({"b", "10", "2"}) == ("10", "2", "b")


def test_lines_for_excluded_files_are_without_effect(tmp_path):
    assert list(
        read(tmp_path, "file,label\n1,x\nm/1_mask,y\nn/3.png,y\n", ["m/1_mask.png", "n"])
    ) == ["1.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1,x\n7.png,y\n", r"line 3: there is no image 7\.png below the folder\. C"),
        ("file,label\n1.jpg,x\n", r"line 2: there is no image 1\.jpg below .*, but 1\.png\."),
        ("file,label\nb/2,x\n", r"line 2: there is no image b/2 below .*, but a/2\.nii\.gz\."),
        ("file,label\n../1.png,x\n", r"line 2: file must be a path below"),
        ("file,label\n/etc/passwd,x\n", r"line 2: file must be a path below"),
        ("file,label\nC:\\1.png,x\n", r"line 2: file must be a path below"),
        ("file,label\n,x\n", r"line 2: file must be a path below"),
        ("file,label\nt,x\n", r"line 2: t may be t\.jpg or t\.png: write the path and ending"),
        ("file,label\n1,x\n1.png,y\n", r"line 3: 1\.png stands on line 2, too"),
        ("file,label\n1,-1\n", r"line 2: label -1 is no class; leave the cell empty"),
        (
            "file,label\n1,NaN\n",
            r"line 2: label 'NaN' may be a class or none; leave the cell empty",
        ),
        ("file;label\n1;1,0\n", r"line 2: label 1,0 may be a number or the name of a class"),
        ("file,label\n1,unlabelled\n", r"line 2: label 'unlabelled' may be a class or none"),
        ("file,label,split\n1,x,later\n", r"line 2: split is 'later'; it may be train, "),
        ("file,label,split\n1,x,\n", r"line 2: split is ''"),
        ("file,label,split\n1,,test\n", r"line 2: a test image needs a label"),
        ("file,label,patient\n1,x,\n", r"line 2: column 'patient' holds ''"),
        ("name,label\n1,x\n", r"lacks the column 'file'.*exclude='labels.csv'"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_no_csv(tmp_path):
    with pytest.raises(FileNotFoundError):
        labels.read(tmp_path / "none.csv", tmp_path, IMAGES, [])
